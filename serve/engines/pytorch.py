"""Any transformers model, on a CPU or a GPU: the reference engine.

transformers' own `generate` draws from the global random state; requests here have seeds of their own, and the
repetition penalty counts generated tokens only and spares the stop token (Keskar et al. 2019, section 4.1), so the
loop is written out.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from assistant import base_model, opening
from assistant.base_model import Base
from assistant.release import Release
from assistant.sampling import Sampling
from assistant.template import Template
from serve.engines.base import PLAIN, Delta, EngineError, Finish, FinishReason, Likelihood, TokenText, Wanted
from serve.engines.parameters import OFFERS

PREFILL = 256
"""Prompt tokens read at a time; a client that leaves meanwhile waits for one such batch at most."""

Put = Callable[[Delta | Finish | BaseException], None]


def next_token(
    logits: torch.Tensor, generated: Sequence[int], stop_id: int, sampling: Sampling, random: torch.Generator
) -> int:
    """Draw the next token from `logits` (V,): repetition penalty, then temperature, then nucleus."""
    scores = logits.float()
    if sampling.repetition_penalty != 1:
        used = torch.tensor(sorted(set(generated) - {stop_id}), dtype=torch.int64, device=scores.device)
        values = scores[used]
        penalised = torch.where(values > 0, values / sampling.repetition_penalty, values * sampling.repetition_penalty)
        scores = scores.index_put((used,), penalised)  # `logits` stay as they are
    if sampling.temperature == 0:
        return int(scores.argmax())
    probabilities = torch.softmax(scores / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        outside = ordered.cumsum(-1) - ordered >= sampling.top_p
        outside[0] = False
        probabilities[order[outside]] = 0
    return int(torch.multinomial(probabilities, 1, generator=random))


def likelihood(logits: torch.Tensor, token: int, top: int) -> Likelihood:
    """How likely `token` was by `logits` (V,), and the `top` likeliest ones."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    values, ids = logprobs.topk(min(top, len(logprobs)))
    return Likelihood(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


class PyTorch:
    """The Engine over a transformers model; one answer at a time."""

    name = "transformers"
    reads_text = False
    offers = frozenset(OFFERS["transformers"])

    def __init__(
        self,
        base: Base,
        place: Path | None,
        record: Release | None,
        template: Template,
        *,
        context: int = 4096,
        say: base_model.Say,
    ) -> None:
        base_model.quiet_transformers()
        self._template = template
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(
            base_model.weights_folder(base, say),
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
        )
        adapter = None if place is None or record is None else opening.adapter_of(place, record)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        self._model = model.to(device).eval()
        self._device = device
        self.context = min(context, getattr(model.config, "max_position_embeddings", context))
        self._turn = asyncio.Lock()

    async def ready(self) -> bool:
        """Always: the model is loaded before the engine exists."""
        return True

    async def close(self) -> None:
        """Nothing outlives the object."""

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, wanted: Wanted = PLAIN
    ) -> AsyncIterator[Delta | Finish]:
        """See Engine."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Delta | Finish | BaseException] = asyncio.Queue()
        left, started = threading.Event(), asyncio.Event()

        def put(item: Delta | Finish | BaseException) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, item)

        async def work() -> None:
            # The turn is held while tokens are made, not while they are read: a slow reader keeps nobody waiting.
            async with self._turn:
                started.set()
                try:
                    await asyncio.to_thread(self._generate, prompt, sampling, wanted, put, left)
                except Exception as error:
                    put(EngineError(f"the model failed: {error}"))

        task = asyncio.create_task(work())
        try:
            while True:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if isinstance(item, Finish):
                    return
        finally:
            left.set()
            if not started.is_set():
                task.cancel()
            await asyncio.shield(asyncio.wait({task}))

    @torch.inference_mode()
    def _generate(
        self, prompt: Sequence[int], sampling: Sampling, wanted: Wanted, put: Put, left: threading.Event
    ) -> None:
        random = torch.Generator(self._device)
        if sampling.seed is None:
            random.seed()
        else:
            random.manual_seed(sampling.seed)
        text = TokenText(self._template)
        cache = DynamicCache(config=self._model.config)
        for start in range(0, len(prompt) - 1, PREFILL):
            if left.is_set():
                return
            part = torch.tensor([list(prompt[start : min(start + PREFILL, len(prompt) - 1)])], device=self._device)
            self._model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1)
        ids = torch.tensor([list(prompt[-1:])], device=self._device)
        generated: list[int] = []
        reason: FinishReason = "length"
        while len(generated) < sampling.max_tokens and not left.is_set():
            logits = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1]
            if left.is_set():
                return
            token = next_token(logits, generated, self._template.stop_id, sampling, random)
            if token == self._template.stop_id:
                reason = "stop"
                break
            generated.append(token)
            likelihoods = () if wanted.likelihoods is None else (likelihood(logits, token, wanted.likelihoods),)
            put(Delta(text.push(token), 1, likelihoods))
            ids = torch.tensor([[token]], device=self._device)
        put(Delta(text.finish(), int(reason == "stop")))
        put(Finish(reason))
