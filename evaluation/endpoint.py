"""A chat model of anybody's at an OpenAI-compatible endpoint (`POST .../chat/completions`), asked with its own template.

Its address is `http://HOST:PORT/v1#MODEL`; `#MODEL` can be left out where the server lists one model. The key, if it wants
one, is THOUSAND_ENDPOINT_KEY.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI, AuthenticationError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from assistant.dialogue import Message, is_text
from assistant.errors import ThousandError
from assistant.sampling import Sampling
from assistant.settings import settings
from serve.chat import Refused, Turn, Usage
from serve.engines.base import EngineError, FinishReason

PATIENCE = 300.0
"""Seconds that an answer may take, the wait in the server's queue and the tries after a 429 included."""
CONNECT = 10.0
"""Seconds that a connection may take."""
RETRIES = 4
"""How often the client asks again after 408, 429, 5xx and a lost connection: after as long as Retry-After says (up to a
minute), else after 0.5, 1, 2 and 4 seconds."""

_REASONS: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}


def is_endpoint(name: str) -> bool:
    """Whether a system's name is an address."""
    return name.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Endpoint:
    """A model at an endpoint."""

    url: str
    model: str
    says: str
    """What the server said of the model when it was found."""

    @classmethod
    def find(cls, address: str) -> "Endpoint":
        """The model at an address, after one question to it.

        Raises ThousandError when nothing answers there, or it refuses the key, lists several models of which none is
        named, or does not answer the question.
        """
        url, _, model = address.partition("#")
        url = url.rstrip("/")
        if not urlsplit(url).hostname:
            raise ThousandError(
                f"{address!r} is no address of an endpoint; give one such as http://127.0.0.1:8000/v1#MODEL"
            )
        timeout = httpx2.Timeout(PATIENCE, connect=CONNECT)
        with OpenAI(base_url=url, api_key=_key(), max_retries=0, timeout=timeout) as client:
            try:
                listed = _listed(client)
                chosen = model or _only(url, listed)
                first = client.with_options(max_retries=RETRIES).chat.completions.create(
                    model=chosen, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
                )
            except AuthenticationError:
                raise ThousandError(f"{url} refuses the key; set THOUSAND_ENDPOINT_KEY to one it knows.") from None
            except APIConnectionError as error:
                raise ThousandError(
                    f"No server answers at {url} ({_cause(error)}); start it, or give another address."
                ) from None
            except (APIError, ValueError) as error:
                raise ThousandError(f"{url} does not chat with the model {chosen!r}: {_words(error)}") from None
        try:
            _text(first)
        except EngineError as error:
            raise ThousandError(f"{url} does not chat with the model {chosen!r}: {error}") from None
        card = listed.get(chosen, {})
        card.pop("created", None)  # of some servers the time they were started
        return cls(url, chosen, json.dumps([card, first.system_fingerprint], sort_keys=True))

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model.rpartition('/')[2]} at {urlsplit(self.url).netloc.rpartition('@')[2]}"

    @property
    def identity(self) -> str:
        """A hash of the address, the model's name, and what the server says of it: not of the model, which nobody here sees."""
        return hashlib.sha256(json.dumps(["endpoint", self.url, self.model, self.says]).encode()).hexdigest()[:16]

    def sampling(self, given: Mapping[str, Any]) -> Sampling:
        """How its answers are drawn: as `given` (fields of Sampling), else by the paper's settings.

        Raises ThousandError for a repetition penalty, which is not in OpenAI's API: the server applies its own.
        """
        if "repetition_penalty" in given:
            raise ThousandError(
                "--repetition-penalty cannot be told to an endpoint, which applies its own; leave it out."
            )
        return Sampling.model_validate({"repetition_penalty": 1.0, **given})

    @cached_property
    def _client(self) -> AsyncOpenAI:
        timeout = httpx2.Timeout(None, connect=CONNECT)
        return AsyncOpenAI(base_url=self.url, api_key=_key(), max_retries=RETRIES, timeout=timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def turn(self, messages: Sequence[Message], sampling: Sampling) -> Turn:
        """An answer, which comes whole. Its text raises EngineError when the server fails or takes too long, and Refused when it
        filters what was said: it would again, and is not down."""
        turn = Turn(Usage(0))
        turn.text = self._answer(turn, messages, sampling)
        return turn

    async def _answer(self, turn: Turn, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str, None]:
        said = [
            cast("ChatCompletionMessageParam", message.model_dump(include={"role", "content"})) for message in messages
        ]
        fields = sampling.model_dump(include={"temperature", "top_p", "max_tokens", "seed"}, exclude_none=True)
        try:
            async with asyncio.timeout(PATIENCE):
                completion = await self._client.chat.completions.create(model=self.model, messages=said, **fields)
        except TimeoutError:
            raise EngineError(f"{self.url} gave no answer within {PATIENCE:g} seconds") from None
        except (APIError, ValueError) as error:
            raise EngineError(_words(error)) from error
        text = _text(completion)
        reason = completion.choices[0].finish_reason
        if reason == "content_filter":
            raise Refused(f"the server broke off: {reason}")
        if reason not in _REASONS:
            raise EngineError(f"the server broke off: {reason}")
        turn.finish_reason = _REASONS[reason]
        if completion.usage:
            turn.usage = Usage(completion.usage.prompt_tokens, completion.usage.completion_tokens)
        yield text


def _key() -> str:
    """Without a key it is a word that says nothing, because the client would look for a key of its own."""
    key = settings().endpoint_key
    return key.get_secret_value() if key else "none"


def _listed(client: OpenAI) -> dict[str, dict[str, Any]]:
    """The server's models by name; none where it does not list them."""
    try:
        return {model.id: model.model_dump(mode="json") for model in client.models.list().data}
    except (AttributeError, TypeError, ValueError):
        return {}
    except APIStatusError as error:
        if isinstance(error, AuthenticationError):
            raise
        return {}


def _only(url: str, listed: Mapping[str, Any]) -> str:
    if len(listed) == 1:
        return next(iter(listed))
    raise ThousandError(f"{url} lists {', '.join(listed) or 'no model'}; name the one to ask: {url}#MODEL")


def _text(completion: ChatCompletion) -> str:
    """The answer of a completion; "" when it says nothing. Raises EngineError for what is none: the client checks nothing."""
    try:
        content = completion.choices[0].message.content
    except (AttributeError, LookupError, TypeError):
        raise EngineError("what the server answered is no chat completion") from None
    if not isinstance(content, str | None) or not is_text(content or ""):
        raise EngineError("what the server answered is no chat completion")
    return content or ""


def _cause(error: Exception) -> str:
    return str(error.__cause__ or error)


def _words(error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status_code}: {' '.join(error.message.split())[:300]}"
    if isinstance(error, APIConnectionError):
        return f"the server went away ({_cause(error)})"
    return "what the server answered is no chat completion"
