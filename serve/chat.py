"""The one path a chat turn takes: limits, template, engine, text deltas, finish reason.

The terminal, the page and the HTTP routes all call `Chat.turn`.
"""

import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from weakref import WeakSet

from assistant.dialogue import Message, turn_order_problem
from assistant.errors import ThousandError
from assistant.release import Release
from assistant.sampling import Sampling
from assistant.template import Template
from serve.engines.base import Delta, Engine, Finish, FinishReason, StopStrings
from serve.seen import watching

MOST_CHARACTERS_A_TOKEN = 40
MOST_TURNS = 64
"""Turns under way and waiting."""


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


@dataclass(eq=False)
class Turn:
    """One answer in the making: iterate over `text` for its deltas; afterwards `finish_reason` and `usage` hold."""

    usage: Usage
    text: AsyncGenerator[str, None] = field(init=False)
    finish_reason: FinishReason | None = None


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
    def answering(self) -> int:
        """How many answers are under way and waiting."""
        return len(self._turns)

    def turn(self, messages: Sequence[Message], sampling: Sampling) -> Turn:
        """Begin an answer. Raises Refused when the messages are out of turn, too long, or spell what the engine would
        take for a control token; Busy when too many wait."""
        problem = turn_order_problem(messages)
        if problem is None and messages[-1].role != "user":
            problem = "the last message must be from the user"
        if problem:
            raise Refused(f"messages: {problem}", parameter="messages")
        characters = sum(len(message.content) for message in messages)
        if characters > self.engine.context * MOST_CHARACTERS_A_TOKEN:  # not even worth counting its tokens
            raise Refused(
                f"The conversation has {characters} characters, far more than the context's {self.engine.context} tokens can hold; "
                "shorten it.",
                parameter="messages",
                code="context_length_exceeded",
            )
        if self.engine.reads_text:
            self._refuse_control_tokens(messages)
        prompt = self.template.prompt(messages)
        room = self.engine.context - len(prompt)
        if room < 1:
            raise Refused(
                f"The conversation has {len(prompt)} tokens and the context holds {self.engine.context}, the answer "
                "included; shorten it, or begin a new one.",
                parameter="messages",
                code="context_length_exceeded",
            )
        if len(self._turns) >= self._most_turns:
            wait = self._until_free()
            raise Busy(f"{len(self._turns)} answers are under way or waiting; try again in {wait} s.", wait)
        turn = Turn(Usage(len(prompt)))
        self._turns.add(turn)
        turn.text = self._text(turn, prompt, sampling.model_copy(update={"max_tokens": min(sampling.max_tokens, room)}))
        if (seen := watching.get()) is not None:
            turn.text = seen.follow(turn, turn.text, self.name)
        return turn

    def _until_free(self) -> int:
        """Seconds after which one of the turns will have ended: how long the last ones took, over how many there are (Little's
        law)."""
        if not self._lasted:
            return 2
        return min(60, math.ceil(sum(self._lasted) / len(self._lasted) / self._most_turns))

    def _refuse_control_tokens(self, messages: Sequence[Message]) -> None:
        spelled = [text for message in messages for text in self.template.control_spellings(message.content)]
        if spelled:
            raise Refused(
                f"The engine ({self.engine.name}) reads the conversation as one text, in which {', '.join(dict.fromkeys(spelled))} "
                "would be taken for the end or the beginning of a turn; write it in another way.",
                parameter="messages",
                code="control_token",
            )

    async def _text(self, turn: Turn, prompt: list[int], sampling: Sampling) -> AsyncGenerator[str, None]:
        stops = StopStrings(sampling.stop)
        began = time.monotonic()
        try:
            async with aclosing(self.engine.stream(prompt, sampling)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Finish):
                        turn.finish_reason = event.reason
                        turn.usage.cached_tokens = event.cached_tokens
                        break
                    assert isinstance(event, Delta)
                    turn.usage.completion_tokens += event.tokens
                    shown = stops.push(event.text)
                    if shown:
                        yield shown
                    if stops.stopped:
                        turn.finish_reason = "stop"
                        return
            rest = stops.finish()
            if rest:
                yield rest
        finally:
            self._lasted.append(time.monotonic() - began)
            self._turns.discard(turn)
