"""What is seen of a request while it is answered, for the log and the metrics: its id, its route, its key, its turns."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from serve.chat import Turn
    from serve.metrics import Meter

log = logging.getLogger("thousand")

_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

watching: ContextVar["Seen | None"] = ContextVar("watching", default=None)
"""The request that this code runs for. `Chat.turn` finds it here, so that no caller can forget to pass it on."""


def request_id(given: str | None) -> str:
    """The client's own id when it is short and plain, else a new one."""
    return given if given is not None and _PLAIN_ID.fullmatch(given) else uuid.uuid4().hex


@dataclass
class SeenTurn:
    """One answer of a request."""

    turn: "Turn"
    release: str
    first: float | None = None
    """Seconds from the request to the first text."""
    outcome: str = "cancelled"


@dataclass(eq=False)
class Seen:
    """One request, or one turn of the page."""

    meter: "Meter"
    via: Literal["api", "page"]
    method: str
    path: str
    client: str
    id: str
    key: str | None = None
    status: int | None = None
    error: str | None = None
    turns: list[SeenTurn] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The block in which turns begin that belong to this request, where no request's own task does it."""
        token = watching.set(self)
        try:
            yield
        finally:
            watching.reset(token)

    def follow(self, turn: "Turn", text: AsyncGenerator[Any, None], release: str) -> AsyncGenerator[Any, None]:
        """The turn's text as it is; what passes is measured."""
        told = SeenTurn(turn, release)
        self.turns.append(told)
        return self._followed(told, text)

    async def _followed(self, told: SeenTurn, text: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        usage, gauge = told.turn.usage, self.meter.turns
        state = gauge.labels("waiting")
        state.inc()
        before, tokens = self.began, 0
        try:
            async with aclosing(text):
                async for piece in text:
                    now, new = time.monotonic(), usage.completion_tokens - tokens
                    if told.first is None:
                        told.first = now - self.began
                        self.meter.first_token.observe(told.first)
                        state.dec()
                        state = gauge.labels("answering")
                        state.inc()
                    elif new:
                        self.meter.next_token.observe((now - before) / new)
                    before, tokens = now, usage.completion_tokens
                    yield piece
            told.outcome = told.turn.finish_reason or "stop"
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException:
            told.outcome = "error"
            self.error = "engine_error"
            raise
        finally:
            state.dec()
            self._count(told)

    def _count(self, told: SeenTurn) -> None:
        key, usage = self.key or "", told.turn.usage
        self.meter.ended.labels(self.via, key, told.outcome).inc()
        for kind, number in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
        ):
            self.meter.tokens.labels(kind, key).inc(number)

    def end(self) -> None:
        """Write the request's line into the log."""
        if self.error is not None:
            self.meter.errors.labels(self.error).inc()
        log.log(
            logging.ERROR if (self.status or 0) >= 500 else logging.INFO, "request", extra={"request": self._line()}
        )

    def _line(self) -> dict[str, Any]:
        line: dict[str, Any] = {
            "id": self.id,
            "via": self.via,
            "method": self.method,
            "path": self.path[:200],
            "status": self.status,
            "seconds": round(time.monotonic() - self.began, 3),
            "client": self.client,
            "key": self.key,
            "error": self.error,
        }
        if self.turns:
            first = self.turns[0]
            usages = [told.turn.usage for told in self.turns]
            line |= {
                "release": first.release,
                "prompt_tokens": sum(usage.prompt_tokens for usage in usages),
                "cached_tokens": sum(usage.cached_tokens for usage in usages),
                "completion_tokens": sum(usage.completion_tokens for usage in usages),
                "first_token_seconds": None if first.first is None else round(first.first, 3),
                "finish_reason": ",".join(told.outcome for told in self.turns),
            }
        return {name: value for name, value in line.items() if value is not None}
