"""text-generation-inference, through huggingface_hub's client and TGI's own route.

TGI takes only text, so it gets the prompt as its tokenizer must read it, and its tokens are decoded here, by id. Its chat
route is not used: it would apply a template of its own, and make a repetition penalty of `presence_penalty`.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
from huggingface_hub import AsyncInferenceClient, set_async_client_factory
from huggingface_hub.errors import HfHubHTTPError, OverloadedError, TextGenerationError
from huggingface_hub.errors import ValidationError as TgiValidationError

from assistant.errors import ThousandError
from assistant.sampling import Sampling
from assistant.template import Template
from serve.engines.base import PLAIN, Delta, EngineBusy, EngineError, EngineRefused, Finish, TokenText, Wanted
from serve.engines.parameters import OFFERS, tgi
from serve.engines.remote import BUSY, CONNECT, PATIENCE, REFUSED, Remote, first_question, said

_TLS = httpx2.create_ssl_context()


async def _read_what_failed(response: httpx2.Response) -> None:
    """A stream's body is not read by itself, and then nothing is known of an error but its status."""
    if response.is_error:
        await response.aread()


def _http_client() -> httpx2.AsyncClient:
    # huggingface_hub's own refuses every address while HF_HUB_OFFLINE is set, this machine's too.
    return httpx2.AsyncClient(verify=_TLS, event_hooks={"response": [_read_what_failed]})


class Tgi:
    """The Engine over a text-generation-inference server."""

    name = "tgi"
    reads_text = True
    offers = frozenset(OFFERS["TGI"])

    def __init__(self, remote: Remote, template: Template, *, context: int) -> None:
        """Raises ThousandError when no TGI answers, or it has another tokenizer, or an adapter that changes nothing."""
        self._remote = remote
        self._template = template
        self.context = min(context, _max_total_tokens(remote))
        _check_tokenizer(remote, template)
        if remote.model is not None:
            _check_adapter(remote, template)
        set_async_client_factory(_http_client)

    def _client(self) -> AsyncInferenceClient:
        return AsyncInferenceClient(self._remote.url, token=self._remote.secret, timeout=PATIENCE)

    async def ready(self) -> bool:
        """Whether the server says that it is well."""
        try:
            async with httpx2.AsyncClient(verify=_TLS, timeout=CONNECT / 2) as client:
                return (await client.get(f"{self._remote.url.rstrip('/')}/health")).status_code == 200
        except httpx2.HTTPError:
            return False

    async def close(self) -> None:
        """Nothing outlives an answer."""

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, wanted: Wanted = PLAIN
    ) -> AsyncIterator[Delta | Finish]:
        """See Engine. Raises EngineError when TGI refuses, fails, or goes away."""
        text = TokenText(self._template)
        inputs = self._template.as_text(prompt)
        try:
            # The client holds every stream open until it is closed itself, so an answer has one of its own.
            async with self._client() as client:
                events = await client.text_generation(
                    inputs, stream=True, details=True, adapter_id=self._remote.model, **tgi(sampling, wanted)
                )
                async for event in events:
                    reason = event.details.finish_reason if event.details else None
                    ended = reason == "eos_token" or event.token.id == self._template.stop_id
                    if not ended:
                        yield Delta("" if event.token.special else text.push(event.token.id), 1)
                    if ended or reason is not None:
                        yield Delta(text.finish(), int(ended))
                        yield Finish("length" if reason == "length" and not ended else "stop")
                        return
        except (httpx2.HTTPError, ValueError) as error:
            raise _meaning(error) from error
        raise EngineError("TGI ended its stream without a finish")


def _meaning(error: Exception) -> EngineError:
    """TGI's errors as ours. An overload comes as an event in the stream, or as the status of the response."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, OverloadedError) or status in BUSY:
        return EngineBusy("TGI is overloaded; try again in a moment.")
    if isinstance(error, TgiValidationError) or status in REFUSED:
        return EngineRefused(f"TGI refused the request: {_words(error)}")
    if isinstance(error, TextGenerationError):
        return EngineError(f"TGI failed: {error}")
    if status is not None:
        return EngineError(f"TGI failed: {_words(error)}")
    return EngineError(f"TGI went away: {type(error).__name__}")


def _words(error: Exception) -> str:
    """What the server said, without the address that huggingface_hub puts in front."""
    if isinstance(error, HfHubHTTPError):
        return f"{error.response.status_code} {error.server_message or ''}".strip()
    return str(error)


def _max_total_tokens(remote: Remote) -> int:
    info = remote.ask("info")
    try:
        return int(info.json()["max_total_tokens"])
    except (ValueError, KeyError, TypeError):
        raise ThousandError(
            f"What answers at {remote.url} is no text-generation-inference (/info: {said(info)}); give its --engine-url, "
            "or use --engine openai."
        ) from None


def _check_tokenizer(remote: Remote, template: Template) -> None:
    ids = first_question(template)
    answer = remote.ask("tokenize", {"inputs": template.as_text(ids)})
    try:
        read = [token["id"] for token in answer.json()]
    except (ValueError, KeyError, TypeError):
        raise ThousandError(
            f"The TGI at {remote.url} does not say how it reads a text (/tokenize: {said(answer)}); use TGI 2.1 or later."
        ) from None
    if read != ids:
        raise ThousandError(
            f"The TGI at {remote.url} reads other tokens than the release was trained on, so it serves another model, or has "
            "another tokenizer; start it on the release: thousand releases export NAME FOLDER --to safetensors"
        )


def _check_adapter(remote: Remote, template: Template) -> None:
    """TGI answers with the plain base when it does not know an adapter, so its effect on one token is looked for."""
    likelihoods = []
    for adapter in ({}, {"adapter_id": remote.model}):
        parameters = {"max_new_tokens": 1, "details": True, **adapter}
        answer = remote.ask(
            "generate", {"inputs": template.as_text(first_question(template)), "parameters": parameters}
        )
        try:
            token: dict[str, Any] = answer.json()["details"]["tokens"][0]
        except (ValueError, KeyError, TypeError, IndexError):
            raise ThousandError(f"The TGI at {remote.url} did not answer a first question: {said(answer)}") from None
        likelihoods.append((token["id"], token["logprob"]))
    if likelihoods[0] == likelihoods[1]:
        raise ThousandError(
            f"The TGI at {remote.url} answers with the adapter {remote.model!r} as it does without, so it does not have it; "
            f"start it with --lora-adapters {remote.model}=FOLDER, or leave out --engine-model when it serves the whole release."
        )
