"""The answers that are voted on: one of each system to each prompt of a set, kept as all answers are (`evaluation.asking`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assistant import release
from assistant.base_model import Say
from assistant.dialogue import Dialogue
from assistant.errors import ThousandError
from assistant.gguf_merge import Progress
from evaluation import safety
from evaluation.asking import asked_remark
from evaluation.sets import PromptSet, Replies, SetName, read_set, scripted
from evaluation.side_by_side import Bar, one_by_one
from evaluation.systems import Asked, need_not_be_here
from evaluation.tables import changed_remark
from evaluation.voting.poll import Poll
from evaluation.voting.scale import ScaleName
from evaluation.voting.sheet import digest, sheet_of
from serve.start import EngineName


def prompts_to_vote_on(name: SetName, file: Path | None, most: int | None) -> PromptSet:
    """A set of single prompts, or so many of it, which are the same ones for every system. It measures nothing."""
    asked = safety.prompt_set(file) if name == "safety" else read_set(name, file, Dialogue, scripted, lambda *_: {})
    chosen = sorted(asked.scripts, key=lambda script: digest(script.system, script.turns[0].user))[:most]
    return replace(asked, scripts=tuple(chosen), columns=lambda _: {})


def poll_of(
    scale: ScaleName,
    names: Sequence[str],
    asked: PromptSet,
    *,
    settings: Mapping[str, Any],
    engine: EngineName,
    say: Say,
    progress: Progress,
    bar: Bar,
) -> Poll:
    """What the systems (as `open_system` knows them) answer, ready to be voted on. Raises ThousandError for one that cannot be had,
    and when there is nothing to vote on."""
    if len(set(names)) < len(names):
        raise ThousandError(f"{names[0]} would be compared with itself; name another system.")
    own = [name for name in names if not need_not_be_here(name)]
    known = [release.read(release.path(name, say)) for name in own or [release.current(say)]]
    said = one_by_one(names, known[0], asked, settings=settings, engine=engine, say=say, progress=progress, bar=bar)
    answered: list[tuple[Asked, Replies]] = []
    for system, replies, changed in said:
        for line in changed_remark(system.name, changed):
            say(line)
        answered.append((system.asked, replies))
    if asked.comes_along:
        for line in asked_remark(asked.name):
            say(line)
    return Poll.of(sheet_of(scale, asked.name, asked.file.name, asked.sha256, asked.left_out, asked.scripts, answered))
