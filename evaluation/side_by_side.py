"""Several systems and one set of prompts: what each says, scored alike and shown beside one another."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from assistant import release
from assistant.base_model import Say
from assistant.gguf_merge import Progress
from assistant.release import Release
from evaluation.asking import Done, ask, asked_remark
from evaluation.conversations import where_it_fails
from evaluation.endpoint import is_endpoint
from evaluation.intervals import HOW
from evaluation.sets import PromptSet, Replies
from evaluation.systems import System, check_names, need_not_be_here, open_system
from evaluation.tables import changed_remark, markdown_answers, markdown_table, remarks, rows, summary
from serve.start import EngineName

Bar = Callable[[str], AbstractContextManager[Callable[[int, int, str], None]]]
"""A progress bar with a label."""
TITLES = {
    "dev": "Answers to the dev prompts",
    "conversations": "The scripted conversations",
    "safety": "Answers to the safety prompts",
    "constraints": "Answers to the constraint prompts",
}


@dataclass(frozen=True)
class Judged:
    """What one system said to a set."""

    system: System
    replies: Replies
    scores: dict[str, Any]
    changed: list[str]
    """Prompts that it had been asked before in other words."""


def one_by_one(
    names: Sequence[str],
    of: Release,
    asked: PromptSet,
    *,
    settings: Mapping[str, Any],
    engine: EngineName,
    say: Say,
    progress: Progress,
    bar: Bar,
) -> Iterator[tuple[System, Replies, list[str]]]:
    """Each system (`open_system`; `base` and `urial` are those of the release `of`), what it says, and which prompts it had been asked
    before in other words. One after the other, so that one model is in memory.

    Raises ThousandError for an endpoint that does not answer, before any system is asked.
    """

    def opened(name: str) -> System:
        return open_system(name, of, engine=engine, say=say, settings=settings, progress=progress)

    elsewhere = {name: opened(name) for name in names if is_endpoint(name)}
    check_names(elsewhere.values())
    for name in names:
        system = elsewhere.get(name) or opened(name)
        with bar(system.name) as advance:
            answered = ask(system, [asked], _counting(advance, asked.turns))
        (replies,) = answered.replies
        yield system, replies, answered.changed


def _counting(advance: Callable[[int, int, str], None], total: int) -> Done:
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        advance(done, total, "")

    return more


def judge_systems(
    names: Sequence[str],
    asked: PromptSet,
    *,
    settings: Mapping[str, Any],
    engine: EngineName,
    say: Say,
    progress: Progress,
    bar: Bar,
) -> list[Judged]:
    """What each of the systems says (`open_system`; `base` and `urial` are the first release's), one after the other.

    Raises ThousandError for one that cannot be had, before any is asked.
    """
    known = [release.read(release.path(name, say)) for name in names if not need_not_be_here(name)]
    said = one_by_one(names, known[0], asked, settings=settings, engine=engine, say=say, progress=progress, bar=bar)
    return [Judged(system, replies, summary(asked.columns(replies)), changed) for system, replies, changed in said]


def to_know(asked: PromptSet, judged: Sequence[Judged]) -> list[str]:
    """What a reader of the numbers must know, a line each."""
    lines = remarks(asked.name, asked.scripts, asked.left_out, {one.system.name: one.replies for one in judged})
    if asked.comes_along:
        lines += asked_remark(asked.name)
    for one in judged:
        lines += changed_remark(one.system.name, one.changed)
        if asked.name == "conversations":
            lines.append(where_it_fails(one.system.name, asked.scripts, one.replies))
    return lines


def page(asked: PromptSet, judged: Sequence[Judged]) -> str:
    """The scores side by side in Markdown, and every answer for anyone to read."""
    systems = {one.system.name: one for one in judged}
    lines = [f"# {TITLES[asked.name]}", ""]
    for name, one in systems.items():
        lines += [f"{name}: {one.system.sampling.model_dump_json()}", ""]
    lines += [f"Means with their {HOW}; one answer a prompt.", ""]
    lines += markdown_table(["measure", *systems], rows({name: one.scores for name, one in systems.items()}))
    lines += [line for remark in to_know(asked, judged) for line in ("", remark)]
    lines += markdown_answers(asked.scripts, {name: one.replies for name, one in systems.items()})
    return "\n".join(lines) + "\n"
