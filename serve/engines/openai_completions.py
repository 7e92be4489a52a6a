"""vLLM, and other servers with OpenAI's `/v1/completions`, through the openai client.

The prompt goes there as token ids. What else a server wants to be asked is found out once, at the start, by a rule
that docs/serving.md tells (`_dialect`).
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI
from openai.types import CompletionChoice, CompletionUsage

from assistant.errors import ThousandError
from assistant.sampling import Sampling
from assistant.template import Template
from serve.engines import likelihoods, parameters
from serve.engines.base import (
    PLAIN,
    Delta,
    EngineBusy,
    EngineError,
    EngineRefused,
    Finish,
    FinishReason,
    Likelihood,
    Wanted,
)
from serve.engines.remote import BUSY, CONNECT, PATIENCE, REFUSED, Remote, first_question, said

GATEWAY = (502, 503, 504)
"""HTTP statuses that come from something in front of a server that is not there."""

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True)
class Dialect:
    """How a server is asked, and how it tells likelihoods."""

    column: parameters.Column
    reads_text: bool
    fields: Callable[[Sampling, int, Wanted], dict[str, Any]]
    """Sampling, the stop token's id and what else is wanted to the fields of the request."""
    likelihoods: Callable[[CompletionChoice, Wanted], tuple[Likelihood, ...]] = lambda choice, wanted: ()


def _llama_servers(choice: CompletionChoice, wanted: Wanted) -> tuple[Likelihood, ...]:
    """llama.cpp tells them in the shape of a chat's."""
    told = (choice.logprobs.model_extra or {}) if choice.logprobs else {}
    return likelihoods.llama_cpp(told.get("content", ()), choice.text, wanted)


VLLM = Dialect("vLLM", False, parameters.vllm, lambda choice, wanted: likelihoods.vllm(choice.logprobs, wanted))
LLAMA_SERVER = Dialect("llama-server", False, parameters.llama_server, _llama_servers)
TRANSFORMERS_SERVE = Dialect("transformers serve", True, parameters.transformers_serve)


class OpenAICompletions:
    """The Engine over a server with OpenAI's completions."""

    name = "openai"

    def __init__(self, remote: Remote, template: Template, *, context: int) -> None:
        """Raises ThousandError when no such server answers, or has no such model, or understands no dialect."""
        models = _models(remote)
        self._model = _model(remote, models)
        self._template = template
        self._dialect = _dialect(remote, self._model, models, template)
        self.reads_text = self._dialect.reads_text
        self.offers = frozenset(parameters.OFFERS[self._dialect.column])
        longest = next((model.get("max_model_len") for model in models if model["id"] == self._model), None)
        self.context = context if longest is None else min(context, longest)
        timeout = httpx2.Timeout(PATIENCE, connect=CONNECT)
        self._client = AsyncOpenAI(base_url=remote.url, api_key=remote.secret, max_retries=0, timeout=timeout)

    async def ready(self) -> bool:
        """Whether the server answers."""
        try:
            await self._client.models.list(timeout=CONNECT / 2)
        except APIStatusError as error:
            return error.status_code not in GATEWAY  # it is there, whatever it thinks of the question
        except APIError:
            return False
        return True

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, wanted: Wanted = PLAIN
    ) -> AsyncIterator[Delta | Finish]:
        """See Engine. Raises EngineError when the server refuses, fails, or goes away.

        A piece of text counts as one token until the server tells the true number at the end.
        """
        told = 0
        reason: str | None = None
        usage: CompletionUsage | None = None
        try:
            events = await self._client.completions.create(
                model=self._model,
                prompt=self._template.as_text(prompt) if self.reads_text else list(prompt),
                stream=True,
                stream_options={"include_usage": True},
                extra_body=self._dialect.fields(sampling, self._template.stop_id, wanted),
            )
            async with events:
                async for event in events:
                    usage = event.usage or usage
                    for choice in event.choices:
                        reason = choice.finish_reason or reason
                        known = self._dialect.likelihoods(choice, wanted)
                        if choice.text or known:
                            tokens = max(len(known), 1)
                            told += tokens
                            yield Delta(choice.text, tokens, known)
        except (APIError, httpx2.HTTPError, ValueError) as error:
            raise _meaning(error) from error
        if reason not in _REASONS:
            raise EngineError(
                "the engine ended its stream without a finish" if reason is None else f"the engine broke off: {reason}"
            )
        if usage is not None:
            yield Delta("", usage.completion_tokens - told)
        details = usage.prompt_tokens_details if usage else None
        yield Finish(_REASONS[reason], (details.cached_tokens or 0) if details else 0)


def _meaning(error: Exception) -> EngineError:
    """The openai client's errors as ours."""
    if isinstance(error, APIStatusError):
        if error.status_code in BUSY:
            return EngineBusy("the engine is overloaded; try again in a moment.")
        if error.status_code in REFUSED:
            return EngineRefused(f"the engine refused the request: {error.message}")
        return EngineError(f"the engine failed: {error.message}")
    if isinstance(error, APIError) and not isinstance(error, APIConnectionError):
        return EngineError(f"the engine failed: {error.message}")
    return EngineError(f"the engine went away: {type(error).__name__}")


def _models(remote: Remote) -> list[dict[str, Any]]:
    """The models that the server lists. One that cannot list them is still asked for the one that was named
    (`transformers serve` cannot without a hub cache)."""
    answer = remote.ask("models")
    try:
        found: list[dict[str, Any]] = answer.json()["data"]
        if all(isinstance(model["id"], str) for model in found):
            return found
    except (ValueError, KeyError, TypeError):
        if remote.model is not None and answer.is_error:
            return []
    raise ThousandError(
        f"What answers at {remote.url} does not list its models as OpenAI does (/models: {said(answer)}); "
        "an --engine-url usually ends in /v1, or name the model with --engine-model."
    )


def _model(remote: Remote, models: list[dict[str, Any]]) -> str:
    """The model to ask for: the one named, or the only one there is."""
    names: list[str] = [model["id"] for model in models]
    if remote.model is not None:
        return remote.model
    if len(names) == 1:
        return names[0]
    raise ThousandError(
        f"The engine at {remote.url} lists {', '.join(names) or 'no model'}; name the one to use with --engine-model."
    )


def _dialect(remote: Remote, model: str, models: list[dict[str, Any]], template: Template) -> Dialect:
    """How the server is to be asked: as llama.cpp's where it says that it is one, because that ignores what it does not know;
    else as vLLM where it takes a first question so; else as `transformers serve`."""
    names = [listed["id"] for listed in models]
    if any(listed.get("owned_by") == "llamacpp" for listed in models):
        if model not in names:  # which it would ignore, too
            raise ThousandError(f"The engine at {remote.url} has no model {model!r}; it has {', '.join(names)}.")
        dialects = [LLAMA_SERVER]
    else:
        dialects = [VLLM, TRANSFORMERS_SERVE]
    ids = first_question(template)
    refusals = []
    for dialect in dialects:
        prompt = template.as_text(ids) if dialect.reads_text else ids
        fields = dialect.fields(Sampling(temperature=0, max_tokens=1), template.stop_id, PLAIN)
        answer = remote.ask("completions", {"model": model, "prompt": prompt, **fields})
        if answer.status_code == 200:
            _check_tokenizer(remote, answer, len(ids))
            return dialect
        refusals.append(said(answer))
        if answer.status_code not in REFUSED:
            break
    raise ThousandError(
        f"The engine at {remote.url} did not answer a first question to the model {model!r} (it lists {', '.join(names) or 'none'}): "
        + "; ".join(refusals)
    )


def _check_tokenizer(remote: Remote, answer: httpx2.Response, meant: int) -> None:
    try:
        read = answer.json()["usage"]["prompt_tokens"]
    except (ValueError, KeyError, TypeError):
        raise ThousandError(
            f"The engine at {remote.url} does not say how many tokens it read ({said(answer)}), so it cannot be told whether it "
            "has the release's tokenizer; it cannot be used."
        ) from None
    if read != meant:
        raise ThousandError(
            f"The engine at {remote.url} reads {read} tokens where the release has {meant}, so it serves another model, or has "
            "another tokenizer; start it on the release: thousand releases export NAME FOLDER --to safetensors"
        )
