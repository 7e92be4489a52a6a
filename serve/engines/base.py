"""What an engine is, and the decoding that every engine of ours shares."""

import codecs
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tokenizers.decoders import DecodeStream

from assistant.errors import ThousandError
from assistant.sampling import Sampling
from assistant.template import Template

FinishReason = Literal["stop", "length"]


class EngineError(ThousandError):
    """An engine failed in the middle of its work; the message is for the log and, in short, for the client."""


class EngineBusy(EngineError):
    """A remote engine has as much work as it takes; asked again in a moment it may do it."""


class EngineRefused(EngineError):
    """A remote engine does not take this request, and would not take it later."""


Offer = Literal["logprobs", "json_object", "json_schema"]
"""What not every engine can do."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of an answer beside how it is drawn."""

    likelihoods: int | None = None
    """With each token its likelihood, and those of this many likeliest ones (0 to 20); None: no likelihoods."""
    schema: Mapping[str, Any] | None = None
    """The answer is JSON that fits this schema (one of `serve.schema`); `ANY_OBJECT`: any JSON object."""

    @property
    def offers(self) -> list[Offer]:
        """What an engine must offer to take it."""
        found: list[Offer] = []
        if self.schema is not None:
            found.append("json_object" if self.schema == ANY_OBJECT else "json_schema")
        if self.likelihoods is not None:
            found.append("logprobs")
        return found


ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
"""The schema of every JSON object."""
PLAIN = Wanted()
"""Text, and nothing with it."""


@dataclass(frozen=True)
class Likelihood:
    """How likely a token was as the model itself has it, before temperature, nucleus, penalty and grammar."""

    token: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens at its place and their logprobs, the likeliest first."""
    octets: bytes | None = None
    """What it stands for, where that is more than the token's own bytes."""


@dataclass(frozen=True)
class Delta:
    """A piece of an answer: text that ends at a character's end (it may be empty) and how many tokens it took."""

    text: str
    tokens: int
    likelihoods: tuple[Likelihood, ...] = ()
    """Of its tokens, when they are wanted; a token that is not told of has none."""


@dataclass(frozen=True)
class Finish:
    """The end of an answer."""

    reason: FinishReason
    cached_tokens: int = 0
    """Prompt tokens that did not have to be read again."""


class Engine(Protocol):
    """Generates from token ids.

    `stream` yields deltas and then one Finish. Closing the generator stops the work within one token. Stop strings
    are not the engine's business: `serve.chat` applies them to every engine alike.
    """

    name: str
    context: int
    """Tokens that a prompt and its answer may have together."""
    reads_text: bool
    """Whether it reads the prompt as one text, where content that spells a control token would become one."""
    offers: frozenset[Offer]
    """What it can do of what not every engine can; nothing else is asked of it."""

    def stream(
        self, prompt: Sequence[int], sampling: Sampling, wanted: Wanted = PLAIN
    ) -> AsyncIterator[Delta | Finish]: ...

    async def ready(self) -> bool: ...

    async def close(self) -> None: ...


class TokenText:
    """Token ids to text, one by one: the pieces joined are the decoding of the whole.

    A piece never ends inside a character: bytes wait until their character is whole. Byte tokens are decoded here, as
    one UTF-8 stream in which a broken character becomes U+FFFD; the tokenizers library turns a whole run of them into
    U+FFFD when its end is broken, which would take back what was already said.
    """

    def __init__(self, template: Template) -> None:
        self._tokenizer = template.tokenizer
        self._byte_of = template.byte_of
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._begin()

    def _begin(self) -> None:
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._sent = 0

    def push(self, token: int) -> str:
        """The text that has become certain with this token."""
        octets = self._byte_of.get(token)
        if octets is not None:
            return self._waiting() + self._utf8.decode(octets)
        broken = self._utf8.decode(b"", final=True)
        self._ids.append(token)
        text: str = self._stream.step(self._tokenizer, token) or ""
        self._sent += len(text)
        return broken + text

    def _waiting(self) -> str:
        """What the stream of whole tokens holds back, which a byte after it makes certain."""
        if not self._ids:
            return ""
        whole: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        rest = whole[self._sent :]
        self._begin()
        return rest

    def finish(self) -> str:
        """The text that was still waiting; a character that was never completed comes as U+FFFD."""
        return self._waiting() + self._utf8.decode(b"", final=True)


class StopStrings:
    """Ends a text at the first of several stop strings; not even the beginning of one is let through before it is
    known not to be one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What may be shown of the text so far; sets `stopped` when a stop string came."""
        if self.stopped:
            return ""
        self._held += text
        # The one that is whole first counts, so that it does not matter in which pieces the text comes.
        found = [(place + len(stop), place) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)[1]], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def _overlap(self, stop: str) -> int:
        """How many last characters of the held text begin `stop`."""
        for length in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if stop.startswith(self._held[-length:]):
                return length
        return 0

    def finish(self) -> str:
        """What was held back and is no stop string after all."""
        shown, self._held = self._held, ""
        return "" if self.stopped else shown
