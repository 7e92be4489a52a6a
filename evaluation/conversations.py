"""Scripted conversations: each turn is checked by its own program, with the system's own earlier answers in the context.

After the paper's section 6, with a program in place of a person: it sees less than a person does, but always the same.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from assistant.held_out import ScriptedConversation
from evaluation.dev import repeated_share
from evaluation.intervals import Column
from evaluation.sets import Columns, PromptSet, Replies, Reply, read_set
from evaluation.tables import counted


def _passed(script: ScriptedConversation, replies: Sequence[Reply]) -> list[bool | None]:
    """For each turn whether its checks hold; None where it has none."""
    return [
        None if turn.checks is None else not reply.failed_checks
        for turn, reply in zip(script.turns, replies, strict=True)
    ]


def columns(scripts: Sequence[ScriptedConversation], replies: Replies) -> Columns:
    """One value a conversation, so that intervals are over conversations, whose turns hang together.

    `turns_passed`: share of its turns that pass their checks. `without_failure`: all of them do. `stopped`: share of its answers
    that end by themselves and are not empty. `repeated_4grams`: mean over its answers. `empty`: share of its turns answered
    with nothing; what would have followed is not asked, and failed. `turn 1`, `turn 2` ...: that turn passes.
    A conversation in which the engine failed has no values.
    """
    answered = [all(reply.outcome != "unanswered" for reply in turns) for turns in replies]
    passed = [
        _passed(script, turns) if here else [] for script, turns, here in zip(scripts, replies, answered, strict=True)
    ]
    checked = [[one for one in turns if one is not None] for turns in passed]

    def of(values: Sequence[float]) -> Column:
        left = iter(values)
        return [next(left) if here else None for here in answered]

    said = [turns for turns, here in zip(replies, answered, strict=True) if here]
    longest = max(len(script.turns) for script in scripts)
    return {
        "turns_passed": [fmean(turns) if turns else None for turns in checked],
        "without_failure": [float(all(turns)) if turns else None for turns in checked],
        "stopped": of([fmean(reply.stopped and reply.outcome == "answered" for reply in turns) for turns in said]),
        "repeated_4grams": of([fmean(repeated_share(reply.text) for reply in turns) for turns in said]),
        "empty": of([fmean(reply.outcome == "empty" for reply in turns) for turns in said]),
        **{f"turn {number + 1}": [_turn(turns, number) for turns in passed] for number in range(longest)},
    }


def _turn(passed: Sequence[bool | None], number: int) -> float | None:
    one = passed[number] if number < len(passed) else None
    return None if one is None else float(one)


def first_failures(scripts: Sequence[ScriptedConversation], replies: Replies) -> dict[int, int]:
    """The number of a turn (from 1) to how many conversations fail there for the first time."""
    found: dict[int, int] = {}
    for script, turns in zip(scripts, replies, strict=True):
        if any(reply.outcome == "unanswered" for reply in turns):
            continue
        passed = _passed(script, turns)
        if False in passed:
            number = passed.index(False) + 1
            found[number] = found.get(number, 0) + 1
    return dict(sorted(found.items()))


def where_it_fails(system: str, scripts: Sequence[ScriptedConversation], replies: Replies) -> str:
    """In which turns how many conversations with a system fail for the first time, in a sentence."""
    failures = first_failures(scripts, replies)
    where = ", ".join(f"turn {turn} in {counted(count, 'conversation')}" for turn, count in failures.items())
    return f"{system} fails first at {where}" if where else f"{system} never fails"


def prompt_set(path: Path | None) -> PromptSet:
    """The scripted conversations, by default those that come along."""
    return read_set("conversations", path, ScriptedConversation, lambda script: script, columns)
