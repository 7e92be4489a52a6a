"""What several systems said to one set of prompts: a table of measures side by side, and a page with every answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from assistant.held_out import ScriptedConversation
from evaluation.intervals import Interval, present
from evaluation.sets import Columns, Replies, Reply, empty, name_of, unanswered

Scores = Mapping[str, Any]


def summary(columns: Columns) -> dict[str, Any]:
    """Each measure's mean with its 95 % interval, and `of` how many prompts where not all have it.

    `unanswered` counts the prompts that have no value at all, as the engine failed.
    """
    prompts = max(map(len, columns.values()))
    answered = sum(
        any(values) for values in zip(*[[v is not None for v in column] for column in columns.values()], strict=True)
    )
    scores: dict[str, Any] = {"prompts": prompts}
    if answered < prompts:
        scores["unanswered"] = prompts - answered
    for name, column in columns.items():
        values = present(column)
        if values:
            of = {"of": len(values)} if len(values) < answered else {}
            scores[name] = {**Interval.of_measure(name, values).model_dump(), **of}
    return scores


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        of = f" of {value['of']}" if "of" in value else ""
        return f"{value['mean']:.3g} [{value['low']:.3g}, {value['high']:.3g}]{of}"
    return "" if value is None else str(value)


def rows(systems: Mapping[str, Scores]) -> list[list[str]]:
    """The name of each measure and each system's value of it."""
    measures = dict.fromkeys(key for scores in systems.values() for key in scores)
    return [[measure, *[_cell(scores.get(measure)) for scores in systems.values()]] for measure in measures]


def table(systems: Mapping[str, Scores]) -> Table:
    """The scores of several systems side by side, each mean with its 95 % interval."""
    shown = Table("measure", *systems, box=None)
    for row in rows(systems):
        shown.add_row(*row)
    return shown


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Its lines."""
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *[f"| {' | '.join(row)} |" for row in body]]


def markdown_answers(scripts: Sequence[ScriptedConversation], systems: Mapping[str, Replies]) -> list[str]:
    """The lines of every prompt and what each system said to it, turn by turn."""
    lines: list[str] = []
    for index, script in enumerate(scripts):
        topic = f" ({script.topic})" if script.topic else ""
        lines += ["", f"### {name_of(script)}{topic}"]
        if script.system:
            lines += ["", f"**system**: {_quoted(script.system)}"]
        for number, turn in enumerate(script.turns):
            lines += ["", f"**user**: {_quoted(turn.user)}"]
            for name, replies in systems.items():
                reply = replies[index][number]
                note = notes(reply)
                lines += ["", f"**{name}**" + (f" ({note})" if note else "") + f": {_quoted(reply.text)}"]
    return lines


def counted(number: int, noun: str) -> str:
    """A number and what it counts."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def remarks(
    name: str, scripts: Sequence[ScriptedConversation], left_out: Sequence[str], systems: Mapping[str, Replies]
) -> list[str]:
    """What a reader of a set's numbers must know, a line each: what is not in them, and what counts as failed unsaid."""
    lines = [f"{name}: left out {duplicate}" for duplicate in left_out]
    for system, replies in systems.items():
        missing, nothing = unanswered(scripts, replies), empty(scripts, replies)
        if missing:
            told = "; ".join(f"{prompt}: {problem}" for prompt, problem in missing.items())
            lines.append(f"{name}: {system} has no answer to {counted(len(missing), 'prompt')}, not scored: {told}")
        if nothing:
            lines.append(f"{name}: {system} said nothing to {', '.join(nothing)}, which counts as failed")
    return lines


def changed_remark(system: str, changed: Sequence[str]) -> list[str]:
    """That prompts have changed since a system was asked them, if some have."""
    if not changed:
        return []
    return [
        f"{system} was asked {counted(len(changed), 'prompt')} anew, with other words than before: {', '.join(changed)}"
    ]


def notes(reply: Reply) -> str:
    """What is to be said of an answer beside its text, in a few words."""
    if reply.outcome == "unanswered":
        return f"no answer: {reply.problem}"
    if reply.outcome == "not reached":
        return "not reached: the conversation ended on an empty answer"
    said = [
        "" if reply.stopped else "cut at the longest length",
        f"fails {', '.join(reply.failed_checks)}" if reply.failed_checks else "",
    ]
    return "; ".join(note for note in said if note)


def _quoted(text: str) -> str:
    body = "\n".join(f"> {line}" for line in text.strip().splitlines())
    return f"\n\n{body or '> (nothing)'}"
