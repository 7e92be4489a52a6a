"""What a system says to the dev prompts, and what a program can tell of it: does it stop, does it repeat itself, does it do as asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from assistant.base_model import Say
from assistant.dialogue import Dialogue
from assistant.errors import BadData
from assistant.jsonl import Problem, read_records
from assistant.settings import bundled
from evaluation.sets import Columns, PromptSet, Replies, read_set, scripted
from evaluation.tables import summary


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


def as_answers(prompts: Sequence[Dialogue], replies: Replies) -> list[Answer | None]:
    """What was said to single-turn prompts; None where there is no answer to score."""
    return [
        None
        if reply.outcome == "unanswered"
        else Answer(prompt, reply.text, reply.tokens, reply.stopped, reply.failed_checks)
        for prompt, (reply,) in zip(prompts, replies, strict=True)
    ]


def columns(answers: Sequence[Answer | None]) -> Columns:
    """What a program can tell of answers to any prompts.

    `stopped`: it said something and ended by itself. `repeated_4grams`: share of word 4-grams that occurred in it before.
    `checks_passed`: it passes all of the prompt's checks. `words`: its length. `empty`: it said nothing.
    """

    def of(value: Callable[[Answer], float | None]) -> list[float | None]:
        return [None if answer is None else value(answer) for answer in answers]

    return {
        "stopped": of(lambda answer: float(answer.stopped and bool(answer.text.strip()))),
        "repeated_4grams": of(lambda answer: repeated_share(answer.text)),
        "checks_passed": of(lambda answer: float(not answer.failed_checks) if answer.prompt.checks else None),
        "words": of(lambda answer: float(len(answer.text.split()))),
        "empty": of(lambda answer: float(not answer.text.strip())),
    }


def _columns(prompts: Sequence[Dialogue], replies: Replies, say: Say) -> Columns:
    from evaluation.quality import qualities

    answers = as_answers(prompts, replies)
    found = columns(answers)
    if not all(prompt.messages[-1].role == "assistant" for prompt in prompts):
        return found
    given = [answer for answer in answers if answer is not None]
    scores = iter([quality.score(with_grade=False) for quality in qualities(given, say)] if given else [])
    return {"score": [None if answer is None else next(scores) for answer in answers], **found}


def prompt_set(path: Path | None, say: Say) -> PromptSet:
    """The dev prompts. Besides `columns` there is `score` where every prompt has a reference answer (`evaluation.quality`)."""
    return read_set("dev", path, Dialogue, scripted, partial(_columns, say=say))


def score(answers: Sequence[Answer]) -> dict[str, Any]:
    """The means of `columns` over the prompts, each with its 95 % interval."""
    return summary(columns(answers))
