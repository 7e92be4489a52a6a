"""Stand-ins for servers that no package brings: text-generation-inference and vLLM, by their documented wire protocols, over a
tiny real model.

TGI's is its router's (`POST /`, `/generate`, `/tokenize`, `/info`, `/health`): events `data:{...}` without a space and without
`[DONE]`, errors with an `error_type` as an event or as a status, a token's `special`. vLLM's is OpenAI's completions with token
ids, fields of its own, and `[DONE]`. Both refuse what the real ones refuse.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, DynamicCache

from assistant.sampling import Sampling
from serve.engines.pytorch import next_token
from tests.server import serving_app

ADAPTER = "tiny"
CONTEXT = 128
HTTP_STATUS = {"validation": 422, "generation": 424, "overloaded": 429, "incomplete_generation": 500}
"""What TGI's routes answer for each error type, where they do not answer with an event."""


Made = tuple[int, torch.Tensor]
"""A token, and the logprobs (V,) that it was drawn by."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong: an error of this type as an event after some tokens, or with `status` in place of a stream; without
    an error the connection breaks (`dies`) or just ends."""

    error_type: str | None = None
    after: int = 0
    status: int | None = None
    dies: bool = False
    sized: bool = True
    """Whether an answer with a status tells its length; huggingface_hub alone would not read it otherwise."""


@dataclass
class StandIn:
    """A server's model, what it was asked, and what is to go wrong."""

    folder: Path
    stop_id: int
    fault: Fault | None = None
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    said: int = 0
    """Tokens of the last stream."""
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Streams that are over, in whatever way."""

    def __post_init__(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.special = {id_ for id_, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        self._model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def tokens(self, prompt: Sequence[int], sampling: Sampling, adapter: str | None) -> Iterator[Made]:
        """Token ids and the logprobs of all tokens, the stop token included; the penalty counts the prompt too, and spares nothing."""
        random = torch.Generator().manual_seed(sampling.seed) if sampling.seed is not None else torch.Generator()
        if sampling.seed is None:
            random.seed()
        cache, ids, seen = DynamicCache(config=self._model.config), list(prompt), list(prompt)
        for _ in range(sampling.max_tokens):
            logits = self._model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0, -1]
            logits = logits * (1.01 if adapter == ADAPTER else 1)  # enough to be seen, too little to say other things
            token = next_token(logits, seen, -1, sampling, random)
            yield token, torch.log_softmax(logits, -1)
            if token == self.stop_id:
                return
            seen.append(token)
            ids = [token]

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, adapter: str | None
    ) -> AsyncIterator[Made | Fault]:
        """`tokens` until it is over, or a fault comes."""
        self.said = 0
        try:
            for count, made in enumerate(self.tokens(prompt, sampling, adapter)):
                if self.fault is not None and count == self.fault.after:
                    if self.fault.dies:
                        raise ConnectionAbortedError
                    yield self.fault
                    return
                self.said += 1
                yield made
                await asyncio.sleep(0)
        finally:
            self.ended.release()

    def note(self, request: Request, body: dict[str, Any]) -> None:
        self.asked.append(body)
        self.keys.add(request.headers.get("authorization"))


def _problem(asked: dict[str, Any], prompt_tokens: int) -> str | None:
    """What TGI and vLLM alike refuse of temperature, top_p, penalty and length."""
    if asked["max_tokens"] < 1 or prompt_tokens + asked["max_tokens"] > CONTEXT:
        return (
            f"`inputs` tokens + `max_new_tokens` must be <= {CONTEXT}. Given: {prompt_tokens} and {asked['max_tokens']}"
        )
    if not 0 < asked["top_p"] <= 1:
        return "`top_p` must be > 0.0"
    if asked["repetition_penalty"] <= 0:
        return "`repetition_penalty` must be strictly positive"
    return None


def _sampling(asked: dict[str, Any]) -> Sampling:
    return Sampling.model_validate({name: value for name, value in asked.items() if name in Sampling.model_fields})


def tgi_app(it: StandIn) -> FastAPI:
    """text-generation-inference."""
    app = FastAPI()

    def read(body: dict[str, Any]) -> list[int]:
        ids: list[int] = it.tokenizer.encode(body["inputs"]).ids  # special tokens are added and parsed, as there
        return ids

    def sampling_of(given: dict[str, Any], prompt_tokens: int) -> tuple[Sampling | None, str | None]:
        names = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0, "seed": None}
        asked = {name: given.get(name, plain) for name, plain in names.items()}
        asked["max_tokens"] = given.get("max_new_tokens", 100)
        problem = _problem(asked, prompt_tokens)
        if given.get("temperature", 1) <= 0:
            problem = "`temperature` must be strictly positive"
        if given.get("top_p", 0.5) >= 1:
            problem = "`top_p` must be > 0.0 and < 1.0"
        if problem:
            return None, problem
        sampled = given.get("do_sample", False) or "temperature" in given or "top_p" in given
        return _sampling(asked if sampled else {**asked, "temperature": 0}), None

    def token(id_: int, logprobs: torch.Tensor) -> dict[str, Any]:
        text = it.tokenizer.decode([id_], skip_special_tokens=False)
        return {"id": id_, "text": text, "logprob": float(logprobs[id_]), "special": id_ in it.special}

    def error(kind: str, words: str | None = None) -> dict[str, Any]:
        said = {"validation": "Input validation error", "overloaded": "Model is overloaded"}.get(kind, "Request failed")
        return {"error": f"{said}: {words}" if words else said, "error_type": kind}

    @app.get("/health")
    async def health() -> Response:
        return Response()

    @app.get("/info")
    async def info() -> dict[str, Any]:
        return {"model_id": "/data", "max_input_tokens": CONTEXT - 1, "max_total_tokens": CONTEXT, "version": "3.3.4"}

    @app.post("/tokenize")
    async def tokenize(body: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"id": id_, "text": "", "start": 0, "stop": 0} for id_ in read(body)]

    @app.post("/generate")
    async def generate(body: dict[str, Any]) -> Response:
        given = body["parameters"]
        sampling, problem = sampling_of(given, len(read(body)))
        if sampling is None:
            return JSONResponse(error("validation", problem), HTTP_STATUS["validation"])
        made = [token(*one) for one in it.tokens(read(body), sampling, given.get("adapter_id"))]
        return JSONResponse({"generated_text": "", "details": {"tokens": made}})

    async def events(body: dict[str, Any]) -> AsyncIterator[str]:
        ids, given = read(body), body["parameters"]
        sampling, problem = sampling_of(given, len(ids))
        if sampling is None:
            yield f"data:{json.dumps(error('validation', problem))}\n\n"
            return
        yield ":\n\n"  # keep-alive
        count = 0
        async for made in it.stream(ids, sampling, given.get("adapter_id")):
            if isinstance(made, Fault):
                if made.error_type:
                    yield f"data:{json.dumps(error(made.error_type))}\n\n"
                return
            count += 1
            ends = made[0] == it.stop_id
            reason = "eos_token" if ends else "length" if count == sampling.max_tokens else None
            details = reason and {"finish_reason": reason, "generated_tokens": count, "input_length": len(ids)}
            event = {"index": count, "token": token(*made), "generated_text": reason and "", "details": details}
            yield f"data:{json.dumps(event, ensure_ascii=False)}\n\n"

    @app.post("/")
    async def root(request: Request, body: dict[str, Any]) -> Response:
        it.note(request, body)
        assert body["stream"]
        if it.fault is not None and it.fault.status is not None:
            answer = json.dumps(error(it.fault.error_type)) if it.fault.error_type else "upstream says no"
            pieces = [answer.encode()]
            return Response(answer, it.fault.status) if it.fault.sized else StreamingResponse(pieces, it.fault.status)
        return StreamingResponse(events(body), media_type="text/event-stream")

    return app


def vllm_app(it: StandIn) -> FastAPI:
    """vLLM's OpenAI-compatible server with the adapter beside its base."""
    app = FastAPI()

    def refused(status: int, words: str) -> JSONResponse:
        return JSONResponse({"error": {"message": words, "type": "BadRequestError", "code": status}}, status)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        cards = [{"id": name, "owned_by": "vllm", "max_model_len": CONTEXT} for name in ("base", ADAPTER)]
        return {"object": "list", "data": cards}

    def told(body: dict[str, Any], id_: int, logprobs: torch.Tensor) -> dict[str, Any] | None:
        if body.get("logprobs") is None:
            return None
        assert body["return_tokens_as_token_ids"]
        top = {f"token_id:{id_}": float(logprobs[id_])}
        for value, other in zip(*logprobs.topk(body["logprobs"]), strict=True):
            top[f"token_id:{int(other)}"] = float(value)
        return {
            "tokens": [f"token_id:{id_}"],
            "token_logprobs": [float(logprobs[id_])],
            "top_logprobs": [top],
            "text_offset": [0],
        }

    async def events(body: dict[str, Any], sampling: Sampling) -> AsyncIterator[str]:
        def event(choices: list[dict[str, Any]], **more: Any) -> str:
            return f"data: {json.dumps({'id': 'cmpl-1', 'object': 'text_completion', 'choices': choices, **more})}\n\n"

        ids: list[int] = []
        shown = ""
        async for made in it.stream(body["prompt"], sampling, body["model"]):
            if isinstance(made, Fault):
                if made.error_type:
                    yield f"data: {json.dumps({'error': {'message': made.error_type, 'code': 500}})}\n\n"
                return
            ids.append(made[0])
            whole = it.tokenizer.decode(ids)
            over = made[0] in body["stop_token_ids"] or len(ids) == sampling.max_tokens
            text = "" if whole.endswith("\ufffd") and not over else whole[len(shown) :]
            shown += text
            reason = ("stop" if made[0] in body["stop_token_ids"] else "length") if over else None
            yield event([{"index": 0, "text": text, "logprobs": told(body, *made), "finish_reason": reason}])
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(ids)}
        yield event(
            [], usage={**usage, "total_tokens": sum(usage.values()), "prompt_tokens_details": {"cached_tokens": 3}}
        )
        yield "data: [DONE]\n\n"

    @app.post("/v1/completions", response_model=None)
    async def completions(request: Request, body: dict[str, Any]) -> Response:
        it.note(request, body)
        if body["model"] not in ("base", ADAPTER):
            return refused(404, f"The model `{body['model']}` does not exist.")
        if it.fault is not None and it.fault.status is not None:
            return refused(it.fault.status, "no")
        if not all(isinstance(id_, int) for id_ in body["prompt"]):
            return refused(400, "this stand-in reads token ids")
        if problem := _problem(body, len(body["prompt"])):
            return refused(400, problem)
        sampling = _sampling(body)
        if not body.get("stream"):
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 1, "total_tokens": 1}
            return JSONResponse({"choices": [{"text": "", "finish_reason": "length"}], "usage": usage})
        return StreamingResponse(events(body, sampling), media_type="text/event-stream")

    return app


@contextmanager
def standing_in(kind: Literal["tgi", "vllm"], folder: Path, stop_id: int, port: int = 0) -> Iterator[StandIn]:
    """A stand-in that listens."""
    it = StandIn(folder, stop_id)
    app, path = (tgi_app(it), "") if kind == "tgi" else (vllm_app(it), "/v1")
    with serving_app(app, port) as address:
        it.url = address + path
        yield it
