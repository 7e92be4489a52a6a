"""Asks a server for a stream and notes when each piece of the answer came.

The client computes on the machine that it measures, so while an answer comes it only keeps bytes and times.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, cycle, pairwise
from pathlib import Path
from typing import Any

import psutil

from assistant.dialogue import Message
from assistant.sampling import Sampling
from evaluation.dev import read_prompts

Question = tuple[str, dict[str, Any]]
"""Path and body."""


@dataclass(frozen=True)
class Server:
    """A server that runs, and how it is asked."""

    name: str
    process: psutil.Process
    place: int | Path
    """A port of this machine, or a Unix socket."""
    question: Callable[[Sequence[Message], Sampling], Question]

    def processes(self) -> list[psutil.Process]:
        """The server's process and those it started."""
        return [self.process, *self.process.children(recursive=True)]

    def megabytes(self) -> float:
        """Resident memory; what two of its processes share counts twice."""
        return sum(float(one.memory_info().rss) for one in self.processes()) / 1e6


@dataclass(frozen=True)
class Answer:
    """What came of a question; moments are seconds of `time.perf_counter`."""

    status: int
    began: float
    ended: float
    pieces: tuple[float, ...]
    """When each piece of text came."""
    text: str
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    finish_reason: str | None
    retry_after: str | None

    @property
    def first(self) -> float:
        """Seconds to the first piece; to the end of an answer without any."""
        return (*self.pieces, self.ended)[0] - self.began

    @property
    def rate(self) -> float:
        """Tokens a second after the first piece."""
        return (self.tokens - 1) / (self.pieces[-1] - self.pieces[0])

    @property
    def gaps(self) -> list[float]:
        """Seconds between one piece and the next."""
        return [later - earlier for earlier, later in pairwise(self.pieces)]


class _ToSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("engine")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def ask(server: Server, messages: Sequence[Message], sampling: Sampling) -> Answer:
    """One question over a connection of its own."""
    path, body = server.question(messages, sampling)
    place = server.place
    connection = _ToSocket(place) if isinstance(place, Path) else http.client.HTTPConnection("127.0.0.1", place)
    content = json.dumps(body)
    began = time.perf_counter()
    connection.request("POST", path, content, {"content-type": "application/json"})
    response = connection.getresponse()
    came: list[tuple[float, bytes]] = []
    while block := response.read1(65536):
        came.append((time.perf_counter(), block))
    ended = time.perf_counter()
    connection.close()
    return _read(response, began, ended, came)


def _read(response: http.client.HTTPResponse, began: float, ended: float, came: list[tuple[float, bytes]]) -> Answer:
    held, text, finish_reason = b"", "", None
    pieces: list[float] = []
    counts = (0, 0, 0)
    for moment, block in came if response.status == 200 else []:
        *events, held = (held + block).split(b"\n\n")
        for event in events:
            if not event.startswith(b"data: {"):
                continue
            value = json.loads(event.removeprefix(b"data: "))
            if piece := _text(value):
                pieces.append(moment)
                text += piece
            counts = _counts(value) or counts
            finish_reason = _finish_reason(value) or finish_reason
    retry_after = response.headers.get("retry-after")
    return Answer(response.status, began, ended, tuple(pieces), text, *counts, finish_reason, retry_after)


def _text(event: dict[str, Any]) -> str | None:
    """The text of an event of `/v1/chat/completions`, `/v1/completions`, or llama.cpp's own `/completion`."""
    if "content" in event:
        return str(event["content"])
    choice = next(iter(event.get("choices", ())), {})
    text: str | None = choice.get("text") or choice.get("delta", {}).get("content")
    return text


def _counts(event: dict[str, Any]) -> tuple[int, int, int] | None:
    """Tokens of the answer, of the prompt, and those of it that were cached."""
    if usage := event.get("usage"):
        details = usage.get("prompt_tokens_details") or {}
        return usage["completion_tokens"], usage["prompt_tokens"], details.get("cached_tokens") or 0
    if event.get("stop"):
        return event["tokens_predicted"], event["tokens_evaluated"], event["timings"].get("cache_n", 0)
    return None


def _finish_reason(event: dict[str, Any]) -> str | None:
    reason: str | None = event.get("stop_type")
    for choice in event.get("choices", ()):
        reason = choice.get("finish_reason") or reason
    return reason


def ask_at_once(server: Server, questions: Sequence[tuple[Sequence[Message], Sampling]]) -> list[Answer]:
    """Several questions at the same time, each from a thread of its own."""
    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(lambda question: ask(server, *question), questions))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Prompts:
    """The dev prompts over and over, each time with another number before it, so that no cache knows one."""

    def __init__(self) -> None:
        self._prompts = cycle(read_prompts())
        self._numbers = count(1)

    def fresh(self) -> list[Message]:
        """One question that was not asked before."""
        prompt = next(self._prompts).messages[0]
        return [Message(role="user", content=f"({next(self._numbers)}) {prompt.content}")]
