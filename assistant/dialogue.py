"""A dialogue: the one object that is read, trained on, served, kept as feedback and read again.

One line of a `.jsonl` file is one dialogue:

    {"id": "stem-0001", "messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from assistant.checks import Checks
from assistant.errors import BadData, ThousandError
from assistant.jsonl import Problem, Record, read_records, repeated_ids
from assistant.provenance import Provenance

Role = Literal["system", "user", "assistant"]

HELD_OUT = frozenset({"dev", "test", "multiturn_test", "safety_test", "constraints_test"})
"""Names of files that judge a model and so are never trained on."""


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: JSON may hold half a surrogate pair, which is no character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def said(content: str) -> str:
    """The content of a message as it is. Raises ValueError when it is blank or no text."""
    if not content.strip():
        raise ValueError("is empty")
    if not is_text(content):
        raise ValueError("holds half a surrogate pair, which is not text")
    return content


class Message(BaseModel):
    """One turn. Its content is never blank."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    content: Annotated[str, AfterValidator(said)]


def turn_order_problem(messages: Sequence[Message]) -> str | None:
    """What is wrong with the order of turns, or None: an optional system message, then user and assistant in turn."""
    start = 1 if messages and messages[0].role == "system" else 0
    if len(messages) == start:
        return "there is no user turn"
    for index, message in enumerate(messages[start:]):
        expected = "user" if index % 2 == 0 else "assistant"
        if message.role == expected:
            continue
        number = start + index + 1
        if message.role == "system":
            return f"message {number} is a system message; only the first message may be one"
        if index == 0:
            return f"message {number} is from the assistant; a dialogue begins with a user turn"
        return f"messages {number - 1} and {number} are both from the {message.role}; join them, or put the missing turn between"
    return None


class Dialogue(Record):
    """A conversation of one or more turns; it may end on a user turn (an odd length)."""

    PARTS: ClassVar = {"messages": Message, "checks": Checks, "provenance": Provenance}

    messages: tuple[Message, ...] = Field(
        description="An optional system message, then user and assistant in turn, beginning with the user."
    )
    checks: Checks | None = Field(
        None, description="What the last answer must satisfy, where the prompt asks for something a program can decide."
    )
    provenance: Provenance | None = Field(None, description="Where it was kept from, and by whose consent.")

    @field_validator("messages")
    @classmethod
    def _in_turn(cls, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        problem = turn_order_problem(messages)
        if problem:
            raise ValueError(problem)
        return messages

    @property
    def answers(self) -> list[str]:
        """The contents of the assistant's turns."""
        return [message.content for message in self.messages if message.role == "assistant"]


def data_files(sources: Iterable[Path], held_out: bool = False) -> list[Path]:
    """The `.jsonl` files that `sources` (files and folders) name; a folder's held-out sets are left out.

    `held_out` allows a held-out set that is named itself, to look at it.

    Raises BadData naming every source that is missing, empty, or a held-out set.
    """
    files: list[Path] = []
    problems: list[str] = []
    for source in sources:
        if source.is_dir():
            inside = [path for path in sorted(source.glob("*.jsonl")) if path.stem not in HELD_OUT]
            if not inside:
                problems.append(f"{source}: the folder holds no .jsonl file of training dialogues")
            files.extend(inside)
        elif not source.exists():
            problems.append(f"{source}: there is no such file or folder; give a .jsonl file or a folder of them")
        elif source.stem in HELD_OUT and not held_out:
            problems.append(f"{source}: is a held-out set, which judges a model and is never trained on; leave it out")
        else:
            files.append(source)
    if problems:
        raise BadData(problems)
    return list(dict.fromkeys(path.resolve() for path in files))


def read_dialogues(sources: Iterable[Path], held_out: bool = False) -> list[Dialogue]:
    """Every dialogue of the given files and folders, in order; sources as in `data_files`.

    Raises BadData with every problem of every file at once: lines that are no dialogue, ids used twice.
    """
    problems: list[Problem] = []
    dialogues: list[Dialogue] = []
    for path in data_files(sources, held_out):
        dialogues.extend(read_records(path, Dialogue, problems))
    problems.extend(repeated_ids(dialogues))
    if problems:
        raise BadData(problems)
    return dialogues


def find(dialogues: Iterable[Dialogue], identifier: str) -> Dialogue:
    """The dialogue with an id. Raises ThousandError naming the nearest ids when there is none."""
    from difflib import get_close_matches

    by_id = {dialogue.id: dialogue for dialogue in dialogues if dialogue.id}
    if identifier in by_id:
        return by_id[identifier]
    near = get_close_matches(identifier, by_id, n=3)
    raise ThousandError(
        f"No dialogue has the id {identifier!r}" + (f"; near it are {', '.join(near)}." if near else ".")
    )
