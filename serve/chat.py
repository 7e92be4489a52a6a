"""The one path a chat turn takes: limits, template, engine, text deltas, finish reason.

The terminal, the page and the HTTP routes all call `Chat.turn` (or `turns`, for several answers to one question). A text that is
no conversation goes the same way from `Chat.continuations` on.
"""

import hashlib
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal
from weakref import WeakSet

from assistant.dialogue import Message, is_text, turn_order_problem
from assistant.errors import ThousandError
from assistant.release import Release
from assistant.sampling import Sampling
from assistant.template import Template
from serve.engines.base import PLAIN, Delta, Engine, Finish, FinishReason, Likelihood, StopStrings, Wanted
from serve.seen import watching

MOST_CHARACTERS_A_TOKEN = 40
MOST_TURNS = 64
"""Turns under way and waiting."""
Source = Literal["messages", "prompt"]
WHAT: dict[Source, str] = {"messages": "The conversation", "prompt": "The prompt"}
"""The field that a prompt comes from, for people."""


class Refused(ThousandError):
    """A turn that cannot be taken, for a reason that is the asker's to mend.

    `parameter` names the field at fault and `code` the kind, as OpenAI's errors do.
    """

    def __init__(self, message: str, *, parameter: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.parameter = parameter
        self.code = code


class Busy(ThousandError):
    """Too many turns are under way or waiting; `retry_after` seconds from now there may be a place."""

    def __init__(self, message: str, retry_after: int = 2) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass
class Usage:
    """Tokens of one turn."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True)
class Told:
    """A likelihood, and the character of the answer at which its token begins."""

    start: int
    likelihood: Likelihood


@dataclass(eq=False)
class Turn:
    """One answer in the making: iterate over `text` for its deltas; afterwards `finish_reason` and `usage` hold."""

    usage: Usage
    text: AsyncGenerator[str, None] = field(init=False)
    finish_reason: FinishReason | None = None
    told: list[Told] = field(default_factory=list)
    """The likelihoods of the tokens that begin in what `text` has said so far, when they are wanted."""


class Chat:
    """A release that answers."""

    def __init__(
        self,
        engine: Engine,
        template: Template,
        *,
        name: str,
        sampling: Sampling,
        record: Release | None = None,
        most_turns: int = MOST_TURNS,
    ) -> None:
        """`sampling` is what a request that says nothing gets; `most_turns` bounds the turns under way and waiting."""
        self.engine = engine
        self.template = template
        self.name = name
        self.sampling = sampling
        self.record = record
        self._most_turns = most_turns
        # Turns that nobody begins to read, and then drops, leave it by themselves.
        self._turns: WeakSet[Turn] = WeakSet()
        self._lasted: deque[float] = deque(maxlen=32)

    @property
    def fingerprint(self) -> str | None:
        """A name for all that decides an answer beside the request; None for what is no release."""
        if self.record is None:
            return None
        made_of = f"{self.record.adapter_sha256} {self.record.base_checksum} {self.engine.name}"
        return f"fp_{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"

    @property
    def answering(self) -> int:
        """How many answers are under way and waiting."""
        return len(self._turns)

    async def close(self) -> None:
        """End the engine."""
        await self.engine.close()

    def turn(self, messages: Sequence[Message], sampling: Sampling) -> Turn:
        """Begin an answer. Raises Refused when the messages are out of turn, too long, or spell what the engine would
        take for a control token; Busy when too many wait."""
        return self.turns(messages, [sampling])[0]

    def turns(self, messages: Sequence[Message], samplings: Sequence[Sampling], wanted: Wanted = PLAIN) -> list[Turn]:
        """Begin an answer for each of `samplings`, or none at all. Raises as `turn`, and Refused when the engine does not offer
        what is wanted."""
        problem = turn_order_problem(messages)
        if problem is None and messages[-1].role != "user":
            problem = "the last message must be from the user"
        if problem:
            raise Refused(f"messages: {problem}", parameter="messages")
        self._check_text([message.content for message in messages], "messages")
        return self._begin([self.template.prompt(messages)], "messages", samplings, wanted)

    def continuations(
        self, prompts: Sequence[str | list[int]], samplings: Sequence[Sampling], wanted: Wanted = PLAIN
    ) -> list[Turn]:
        """Begin, for each of `prompts` and then for each of `samplings`, what goes on from a text or from token ids, or nothing
        at all. Raises as `turns`."""
        self._check_text([prompt for prompt in prompts if isinstance(prompt, str)], "prompt")
        ids = [self._ids(prompt) for prompt in prompts]
        return self._begin(ids, "prompt", samplings, wanted)

    def _ids(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            ids = self.template.continuation(prompt)
            problem = "prompt: is empty, and this model has no token that begins a text"
        else:
            ids, known = prompt, self.template.tokenizer.get_vocab_size()
            problem = f"prompt: token ids are from 0 to {known - 1}"
            if self.engine.reads_text:
                problem = f"prompt: the engine ({self.engine.name}) reads text, not token ids"
            if self.engine.reads_text or not all(0 <= id_ < known for id_ in ids):
                ids = []
        if not ids:
            raise Refused(problem, parameter="prompt")
        return ids

    def _check_text(self, contents: Sequence[str], field: Source) -> None:
        """Refuse what is no text, or not worth counting its tokens, and control tokens where the engine would read them."""
        if not all(map(is_text, contents)):
            raise Refused(f"{field}: holds half a surrogate pair, which is not text", parameter=field)
        characters = sum(map(len, contents))
        if characters > self.engine.context * MOST_CHARACTERS_A_TOKEN:
            raise Refused(
                f"{WHAT[field]} has {characters} characters, far more than the context's {self.engine.context} tokens can hold; "
                "shorten it.",
                parameter=field,
                code="context_length_exceeded",
            )
        spelled: list[str] = []
        if self.engine.reads_text:
            spelled = [text for content in contents for text in self.template.control_spellings(content)]
        if spelled:
            raise Refused(
                f"The engine ({self.engine.name}) reads all as one text, in which {', '.join(dict.fromkeys(spelled))} "
                "would be taken for the end or the beginning of a turn; write it in another way.",
                parameter=field,
                code="control_token",
            )

    def _begin(
        self, prompts: Sequence[list[int]], field: Source, samplings: Sequence[Sampling], wanted: Wanted
    ) -> list[Turn]:
        """The turns of all prompts. `field` is where the prompts came from."""
        for offer in wanted.offers:
            if offer not in self.engine.offers:
                raise Refused(
                    f"{offer}: the engine ({self.engine.name}) does not offer it; docs/serving.md says which one does.",
                    parameter="logprobs" if offer == "logprobs" else "response_format",
                    code="unsupported_parameter",
                )
        longest = max(map(len, prompts))
        if longest >= self.engine.context:
            raise Refused(
                f"{WHAT[field]} has {longest} tokens and the context holds {self.engine.context}, the answer included; "
                "shorten it, or begin a new one.",
                parameter=field,
                code="context_length_exceeded",
            )
        if len(self._turns) + len(prompts) * len(samplings) > self._most_turns:
            wait = self._until_free()
            raise Busy(f"{len(self._turns)} answers are under way or waiting; try again in {wait} s.", wait)
        turns = []
        for prompt in prompts:
            room = self.engine.context - len(prompt)
            for sampling in samplings:
                turn = Turn(Usage(len(prompt)))
                bounded = sampling.model_copy(update={"max_tokens": min(sampling.max_tokens, room)})
                turn.text = self._text(turn, prompt, bounded, wanted)
                if (seen := watching.get()) is not None:
                    turn.text = seen.follow(turn, turn.text, self.name)
                self._turns.add(turn)
                turns.append(turn)
        return turns

    def _until_free(self) -> int:
        """Seconds after which one of the turns will have ended: how long the last ones took, over how many there are (Little's
        law)."""
        if not self._lasted:
            return 2
        return min(60, math.ceil(sum(self._lasted) / len(self._lasted) / self._most_turns))

    async def _text(
        self, turn: Turn, prompt: list[int], sampling: Sampling, wanted: Wanted
    ) -> AsyncGenerator[str, None]:
        stops = StopStrings(sampling.stop)
        began = time.monotonic()
        waiting: deque[Told] = deque()
        said = shown = 0
        try:
            async with aclosing(self.engine.stream(prompt, sampling, wanted)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Finish):
                        turn.finish_reason = event.reason
                        turn.usage.cached_tokens = event.cached_tokens
                        break
                    assert isinstance(event, Delta)
                    turn.usage.completion_tokens += event.tokens
                    waiting.extend(self._placed(event, said))
                    said += len(event.text)
                    text = stops.push(event.text)
                    shown += len(text)
                    while waiting and waiting[0].start < shown:
                        turn.told.append(waiting.popleft())
                    if text:
                        yield text
                    if stops.stopped:
                        turn.finish_reason = "stop"
                        return
            turn.told += waiting
            rest = stops.finish()
            if rest:
                yield rest
        finally:
            self._lasted.append(time.monotonic() - began)
            self._turns.discard(turn)

    def _placed(self, delta: Delta, begin: int) -> Iterator[Told]:
        """The likelihoods of a piece of text that begins at the character `begin`; a control token says nothing, and has none."""
        before = b""
        for likelihood in delta.likelihoods:
            octets = likelihood.octets or self.template.octets(likelihood.token)
            if octets is not None:
                yield Told(begin + min(len(before.decode(errors="ignore")), len(delta.text)), likelihood)
                before += octets
