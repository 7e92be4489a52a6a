"""Engines that read what they are asked, and say what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from assistant.sampling import Sampling
from assistant.template import Template
from serve.engines.base import PLAIN, Delta, EngineError, Finish, Offer, Wanted

Say = Callable[[str], str | None]
"""From the whole prompt as text to the answer; None when the engine fails. An answer that ends in "..." is cut at the longest length."""


@dataclass
class Answering:
    """One engine; `asked` has the prompts that it was given."""

    say: Say
    template: Template
    asked: list[str]
    name: str = "answering"
    context: int = 4096
    reads_text: bool = False
    offers: frozenset[Offer] = frozenset()

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, wanted: Wanted = PLAIN
    ) -> AsyncIterator[Delta | Finish]:
        text = self.template.tokenizer.decode(list(prompt), skip_special_tokens=False)
        self.asked.append(text)
        await asyncio.sleep(0)
        answer = self.say(text)
        if answer is None:
            yield Delta("it began ", 2)
            raise EngineError("the engine broke in the middle")
        for word in answer.split(" "):
            yield Delta(f"{word} ", 1)
        yield Finish("length" if answer.endswith("...") else "stop")

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        return None


@dataclass
class Engines:
    """What each system says, by the release's name or `base`; and what each was asked."""

    says: dict[str, Say]
    asked: dict[str, list[str]] = field(default_factory=dict)

    def start(
        self, kind: str, base: object, place: Path | None, record: object, template: Template, *others: Any
    ) -> Answering:
        name = "base" if place is None else place.name
        return Answering(self.says[name], template, self.asked.setdefault(name, []))


def answering(monkeypatch: pytest.MonkeyPatch, **says: Say) -> Engines:
    """Releases (and `base`) that say what they are told to."""
    engines = Engines(says)
    monkeypatch.setattr("serve.start.start_engine", engines.start)
    monkeypatch.setattr("evaluation.urial.start_engine", engines.start)
    return engines
