"""What a system says to the dev prompts, and what a program can tell of it: does it stop, does it repeat itself, does it do as asked."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from assistant import release
from assistant.dialogue import Dialogue
from assistant.errors import BadData, ThousandError
from assistant.jsonl import Problem, read_records
from assistant.sampling import Sampling
from assistant.settings import bundled
from serve.chat import Chat, Refused
from serve.engines.base import EngineError

CONCURRENT = 4


@dataclass(frozen=True)
class Answer:
    """One answer to one prompt."""

    prompt: Dialogue
    text: str
    tokens: int
    stopped: bool
    """It ended by itself, before the longest length allowed."""
    failed_checks: tuple[str, ...]


def prompts_file(path: Path | None = None) -> Path:
    """The file of dev prompts: the given one, or the one that comes along."""
    return path or bundled("dialogues") / "dev.jsonl"


def read_prompts(path: Path | None = None) -> list[Dialogue]:
    """The dev prompts of a file, by default those that come along. Raises BadData with every bad line."""
    file = prompts_file(path)
    problems: list[Problem] = []
    prompts = read_records(file, Dialogue, problems)
    if problems:
        raise BadData(problems)
    return prompts


def repeated_share(text: str, n: int = 4) -> float:
    """The share of a text's word n-grams that occurred in it before; 0 for a text of fewer than n words."""
    words = text.lower().split()
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


async def _answer(chat: Chat, prompt: Dialogue, sampling: Sampling) -> Answer:
    messages = [message for message in prompt.messages if message.role != "assistant"]
    try:
        turn = chat.turn(messages, sampling)
        text = "".join([piece async for piece in turn.text])
    except (Refused, EngineError) as error:
        raise ThousandError(f"{prompt.where}: {error}") from None
    failed = tuple(prompt.checks.failed(text)) if prompt.checks else ()
    return Answer(prompt, text, turn.usage.completion_tokens, turn.finish_reason == "stop", failed)


async def answer_all(
    chat: Chat, prompts: Sequence[Dialogue], sampling: Sampling, done: Callable[[int], None] = lambda count: None
) -> list[Answer]:
    """One answer to each single-turn prompt, some at a time, in the prompts' order.

    Raises ThousandError for a prompt of several turns.
    """
    long = [prompt for prompt in prompts if sum(message.role == "user" for message in prompt.messages) != 1]
    if long:
        raise ThousandError(f"{long[0].where}: has several user turns; dev prompts have one.")
    places = asyncio.Semaphore(CONCURRENT)
    finished = 0

    async def one(prompt: Dialogue) -> Answer:
        nonlocal finished
        async with places:
            answer = await _answer(chat, prompt, sampling)
        finished += 1
        done(finished)
        return answer

    return list(await asyncio.gather(*[one(prompt) for prompt in prompts]))


def answers_of(
    chat: Chat, prompts: Sequence[Dialogue], sampling: Sampling, done: Callable[[int], None] = lambda count: None
) -> list[Answer]:
    """`answer_all` for a caller without an event loop; the engine is closed afterwards."""

    async def all_of_them() -> list[Answer]:
        try:
            return await answer_all(chat, prompts, sampling, done)
        finally:
            await chat.engine.close()

    return asyncio.run(all_of_them())


def bootstrap_interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean (percentiles of means of resamples; fixed seed)."""
    source = random.Random(0)  # noqa: S311 (no secret)
    means = sorted(sum(source.choices(values, k=len(values))) / len(values) for _ in range(draws))
    return means[int(draws * 0.025)], means[int(draws * 0.975)]


def score(answers: Sequence[Answer]) -> dict[str, Any]:
    """Numbers for a table: shares and means over the prompts, each with its 95 % bootstrap interval.

    `stopped`: share of answers that end by themselves. `repeated_4grams`: mean share of repeated word 4-grams.
    `checks_passed`: share of prompts with checks whose answer passes them all. `words`: mean length.
    """
    with_checks = [answer for answer in answers if answer.prompt.checks]
    columns = {
        "stopped": [float(answer.stopped) for answer in answers],
        "repeated_4grams": [repeated_share(answer.text) for answer in answers],
        "checks_passed": [float(not answer.failed_checks) for answer in with_checks],
        "words": [float(len(answer.text.split())) for answer in answers],
    }
    scores: dict[str, Any] = {"prompts": len(answers), "prompts_with_checks": len(with_checks)}
    for name, values in columns.items():
        if values:
            low, high = bootstrap_interval(values)
            scores[name] = {"mean": round(sum(values) / len(values), 4), "low": round(low, 4), "high": round(high, 4)}
    return scores


Systems = dict[str, tuple[Sequence[Answer], dict[str, Any]]]
"""The name of a system to its answers and its scores."""


def record(chat: Chat, scores: dict[str, Any], sampling: Sampling) -> None:
    """Write dev scores into the release's record."""
    place = release.path(chat.name)
    known = release.read(place)
    release.write(
        place,
        known.model_copy(
            update={"scores": {**known.scores, "dev": {**scores, "sampling": sampling.model_dump(mode="json")}}}
        ),
    )


def table(systems: Systems) -> Table:
    """The scores of several systems side by side, each mean with its 95 % interval."""
    shown = Table("measure", *systems, box=None)
    for measure in dict.fromkeys(key for _, scores in systems.values() for key in scores):
        shown.add_row(measure, *[_cell(scores.get(measure)) for _, scores in systems.values()])
    return shown


def markdown(systems: Systems, sampling: Sampling) -> str:
    """A page with the scores of several systems side by side, and every answer for anyone to read."""
    names = list(systems)
    lines = ["# Answers to the dev prompts", "", f"Sampling: {sampling.model_dump_json()}. One answer a prompt.", ""]
    lines += [f"| measure | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    measures = dict.fromkeys(key for _, scores in systems.values() for key in scores)
    for measure in measures:
        cells = [_cell(systems[name][1].get(measure)) for name in names]
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    first = systems[names[0]][0]
    for index, answer in enumerate(first):
        lines += ["", f"## {answer.prompt.id or index + 1}", ""]
        lines += [
            f"**{message.role}**: {_quoted(message.content)}"
            for message in answer.prompt.messages
            if message.role != "assistant"
        ]
        for name in names:
            given = systems[name][0][index]
            notes = [
                "" if given.stopped else "cut at the longest length",
                f"fails {', '.join(given.failed_checks)}" if given.failed_checks else "",
            ]
            note = "; ".join(note for note in notes if note)
            lines += ["", f"**{name}**" + (f" ({note})" if note else "") + f": {_quoted(given.text)}"]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
    return "" if value is None else str(value)


def _quoted(text: str) -> str:
    body = "\n".join(f"> {line}" for line in text.strip().splitlines())
    return f"\n\n{body or '> (nothing)'}"
