"""One answer for the page, by the same path and under the same limits as every other: `serve.chat`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio
from pydantic import ValidationError

from assistant.dialogue import Message
from assistant.errors import ThousandError, validation_sentence
from assistant.sampling import Sampling
from serve.access import Access
from serve.chat import Busy, Refused, Turn
from serve.engines.base import EngineError
from serve.errors import ApiError
from serve.life import Life
from serve.metrics import Meter
from serve.seen import Seen
from serve.served import CannotLoad, Served, UnknownModel
from serve.store import Store
from serve.ui.tree import Finished
from serve.watching import page_turn

PAUSE = 0.08
"""Seconds between two pictures of an answer in the making: as smooth as is read, and far fewer than there are tokens."""


class NoAnswer(ThousandError):
    """Why there is none, for the person who asked."""


@dataclass(frozen=True)
class Asker:
    """Who asks, as limits count it."""

    key: str | None
    client: str

    @classmethod
    def of(cls, request: gradio.Request) -> "Asker":
        return cls(request.username, request.client.host if request.client else "")


@dataclass(frozen=True)
class House:
    """What answers, what watches over it, and where what people say of it goes."""

    served: Served
    access: Access
    meter: Meter
    life: Life
    store: Store


@dataclass
class Answer:
    """An answer, whole once it says how it ended."""

    release: str
    sampling: dict[str, Any]
    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    """From its first text to its last."""
    finish: Finished | None = None
    problem: str | None = None
    """What the engine said when it failed in the middle."""


def _sampling(values: dict[str, Any]) -> Sampling:
    seed = str(values.pop("seed", None) or "").strip() or None
    return Sampling(**{**values, "max_tokens": int(values["max_tokens"])}, seed=seed)


def _refusal(seen: Seen, error: Exception) -> NoAnswer:
    """Why there is no answer, noted for the log."""
    if isinstance(error, ValidationError):
        seen.error, text = "invalid_value", validation_sentence(error)
    elif isinstance(error, ApiError):
        seen.error, text = error.code, error.detail
    elif isinstance(error, Refused):
        seen.error, text = error.code, str(error)
    else:
        codes = {Busy: "busy", UnknownModel: "model_not_found", CannotLoad: "model_unavailable"}
        seen.error, text = codes[type(error)], str(error)
    return NoAnswer(text)


async def answers(
    house: House,
    asker: Asker,
    release: str,
    messages: Sequence[Message],
    values: dict[str, Any],
    stop: asyncio.Event | None = None,
) -> AsyncGenerator[Answer, None]:
    """The answer to a conversation, again and again as it grows; `stop` ends it. `values` are the settings as the page has them.

    Raises NoAnswer before the first one.
    """
    with page_turn(house.meter, house.life, key=asker.key, client=asker.client) as seen:
        try:
            house.access.count_request(asker.key, asker.client)
            sampling = _sampling(dict(values))
            async with house.served.chat(release) as chat:
                with seen.watched():
                    turn = chat.turn(messages, sampling)
        except (ValidationError, Refused, Busy, ApiError, UnknownModel, CannotLoad) as error:
            raise _refusal(seen, error) from None
        answer = Answer(chat.name, sampling.model_dump(mode="json", exclude_none=True))
        del chat  # which a swap is to free
        async with aclosing(turn.text) as text, aclosing(_until(text, stop)) as pieces:
            began = shown = None
            try:
                async for piece in pieces:
                    now = time.monotonic()
                    began = now if began is None else began
                    answer.text += piece
                    answer.tokens, answer.seconds = turn.usage.completion_tokens, round(now - began, 3)
                    if shown is None or now - shown >= PAUSE:
                        shown = now
                        yield answer
            except EngineError as error:
                answer.finish, answer.problem = "failed", str(error)
        answer.finish = answer.finish or _finish(turn, stop)
        yield answer


def _finish(turn: Turn, stop: asyncio.Event | None) -> Finished:
    if turn.finish_reason is not None:
        return turn.finish_reason
    return "stop" if stop is None or not stop.is_set() else "stopped"


async def _until(text: AsyncGenerator[str, None], stop: asyncio.Event | None) -> AsyncGenerator[str, None]:
    """The same text until it is to stop, which is at once, also in the middle of waiting for a piece."""
    stopped = None if stop is None else asyncio.create_task(stop.wait())
    piece: asyncio.Task[str] | None = None
    try:
        while True:
            piece = asyncio.create_task(anext(text))
            await asyncio.wait([piece] if stopped is None else [piece, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                return
            try:
                yield piece.result()
            except StopAsyncIteration:
                return
    finally:
        left = [task for task in (piece, stopped) if task is not None and not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
