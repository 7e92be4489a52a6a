"""A set of prompts that a system is asked: single prompts and scripted conversations alike, and what their answers measure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from assistant.dialogue import Dialogue
from assistant.errors import BadData, ThousandError
from assistant.files import sha256
from assistant.held_out import ScriptedConversation, ScriptedTurn
from assistant.jsonl import Problem, Record, read_records, repeated_ids
from assistant.settings import bundled
from evaluation.intervals import Column

MAX_TOKENS = 256
"""The longest answer of an evaluation: one that has not ended by then is cut, and counted as that."""
SetName = Literal["dev", "test", "conversations", "safety", "constraints"]
FILES: dict[SetName, str] = {
    "dev": "dev.jsonl",
    "test": "test.jsonl",
    "conversations": "multiturn_test.jsonl",
    "safety": "safety_test.jsonl",
    "constraints": "constraints_test.jsonl",
}
Outcome = Literal["answered", "empty", "not reached", "unanswered"]
RecordT = TypeVar("RecordT", bound=Record)
Columns = dict[str, Column]
"""The name of a measure to its values, aligned with the prompts of a set."""


class Reply(BaseModel):
    """What came of one turn.

    `empty`: it said nothing, which satisfies no check. `not reached`: the conversation ended on an empty answer before, so that
    this turn is failed too. `unanswered`: the engine failed or the prompt cannot be asked; that is no answer, and is scored as none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    outcome: Outcome
    text: str = ""
    tokens: int = 0
    stopped: bool = False
    """It ended by itself, before the longest length allowed."""
    failed_checks: tuple[str, ...] = ()
    problem: str | None = None
    """Why there is no answer."""


Replies = Sequence[Sequence[Reply]]
"""For each prompt of a set, what came of each of its turns."""


@dataclass(frozen=True)
class PromptSet:
    """What is asked, each as the user's side of a conversation, and how to measure what comes back."""

    name: SetName
    file: Path
    sha256: str
    scripts: tuple[ScriptedConversation, ...]
    left_out: tuple[str, ...]
    """Duplicates, each with its place and the place of the first."""
    columns: Callable[[Replies], Columns]
    """The values of each measure, aligned with `scripts`."""

    @property
    def comes_along(self) -> bool:
        """Whether it is the set that is installed, not a file of the user's own."""
        return self.file == bundled_set(self.name)

    @property
    def turns(self) -> int:
        return sum(len(script.turns) for script in self.scripts)


def bundled_set(name: SetName) -> Path:
    """The file of a set that comes along."""
    return bundled("dialogues") / FILES[name]


def name_of(record: Record) -> str:
    """The id of a prompt, or the number of its line."""
    return record.id or f"line {record.where.rpartition(':')[2]}"


def empty(scripts: Sequence[ScriptedConversation], replies: Replies) -> list[str]:
    """The prompts to which a system said nothing."""
    return [
        name_of(script)
        for script, turns in zip(scripts, replies, strict=True)
        if any(reply.outcome == "empty" for reply in turns)
    ]


def unanswered(scripts: Sequence[ScriptedConversation], replies: Replies) -> dict[str, str]:
    """The prompts that have no answer, and why."""
    return {
        name_of(script): reply.problem
        for script, turns in zip(scripts, replies, strict=True)
        for reply in turns
        if reply.problem is not None
    }


def scripted(prompt: Dialogue) -> ScriptedConversation:
    """A single-turn prompt as a conversation of one turn. Raises ThousandError when it has several user turns."""
    system, users = ([message for message in prompt.messages if message.role == role] for role in ("system", "user"))
    if len(users) != 1:
        raise ThousandError(f"{prompt.where}: has several user turns; a prompt of this set has one.")
    return ScriptedConversation(
        topic=prompt.topic,
        system=system[0].content if system else None,
        turns=(ScriptedTurn(user=users[0].content, checks=prompt.checks),),
    )


def read_set(
    name: SetName,
    path: Path | None,
    kind: type[RecordT],
    as_script: Callable[[RecordT], ScriptedConversation],
    columns: Callable[[Sequence[RecordT], Replies], Columns],
    wanted: Callable[[RecordT], bool] = lambda record: True,
) -> PromptSet:
    """The set in a file, by default the one that comes along; `columns` measures what is said to its records that are `wanted`.

    A prompt that stands a second time is left out, since it would count twice. Raises BadData with every bad line and
    every id that is used twice, ThousandError when no record is wanted.
    """
    file = path or bundled_set(name)
    problems: list[Problem] = []
    records = read_records(file, kind, problems)
    problems.extend(repeated_ids(records))
    if problems:
        raise BadData(problems)
    first: dict[object, RecordT] = {}
    scripts: list[ScriptedConversation] = []
    left_out: list[str] = []
    for record in filter(wanted, records):
        script = as_script(record).model_copy(update={"id": name_of(record)})
        asked = (script.system, tuple(turn.user for turn in script.turns))
        if asked in first:
            left_out.append(f"{record.where}: the same prompt as {first[asked].where}")
        else:
            first[asked] = record
            scripts.append(script)
    if not scripts:
        raise ThousandError(f"{file} holds no prompt that can be measured here; see: thousand evaluate {name} --help")
    return PromptSet(name, file, sha256(file), tuple(scripts), tuple(left_out), partial(columns, list(first.values())))
