"""A dialogue: the one object that is read, trained on, served, kept as feedback and read again.

One line of a `.jsonl` file is one dialogue:

    {"id": "stem-0001", "messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from assistant.checks import Checks
from assistant.errors import BadData, ThousandError
from assistant.files import write_text

Role = Literal["system", "user", "assistant"]

HELD_OUT = frozenset({"dev", "test", "multiturn_test", "safety_test"})
"""Names of files that judge a model and so are never trained on."""

MAX_LINE_BYTES = 4_000_000


class Message(BaseModel):
    """One turn. Its content is never blank."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    content: str

    @field_validator("content")
    @classmethod
    def _not_blank(cls, content: str) -> str:
        if not content.strip():
            raise ValueError("is empty")
        if any("\ud800" <= character <= "\udfff" for character in content):
            raise ValueError("holds half a surrogate pair, which is not text")
        return content


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


class Dialogue(BaseModel):
    """A conversation of one or more turns; it may end on a user turn (an odd length)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = Field(None, min_length=1, max_length=200)
    source: str | None = None
    topic: str | None = None
    messages: tuple[Message, ...]
    license: str | None = None
    checks: Checks | None = None
    """What the last answer must satisfy, where the prompt asks for something a program can decide."""

    _where: str = PrivateAttr("")

    @field_validator("messages")
    @classmethod
    def _in_turn(cls, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        problem = turn_order_problem(messages)
        if problem:
            raise ValueError(problem)
        return messages

    @property
    def where(self) -> str:
        """`file:line` of a dialogue that was read from a file, else its id."""
        return self._where or self.id or "dialogue"

    @property
    def answers(self) -> list[str]:
        """The contents of the assistant's turns."""
        return [message.content for message in self.messages if message.role == "assistant"]


def _reasons(error: ValidationError) -> Iterator[str]:
    for item in error.errors():
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
        if item["type"] == "extra_forbidden":
            known = ", ".join(
                Message.model_fields
                if place.startswith("messages[")
                else Checks.model_fields
                if place.startswith("checks.")
                else Dialogue.model_fields
            )
            yield f"{place}: unknown field; known are {known}"
        elif item["type"] == "missing":
            yield f"{place}: is missing"
        elif item["type"] == "literal_error":
            yield f"{place}: is {item['input']!r}; it must be {item['ctx']['expected']}"
        else:
            yield f"{place}: {item['msg'].removeprefix('Value error, ')}" if place else item["msg"]


def _parse(line: bytes) -> Dialogue:
    """One line as a Dialogue. Raises ValueError with every reason, one a line of its message."""
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"the line has {len(line) / 1e6:.1f} MB; a dialogue may have {MAX_LINE_BYTES / 1e6:.0f} MB")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not UTF-8: byte {error.start + 1} of the line is 0x{line[error.start]:02x}; save the file as UTF-8"
        ) from None
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"is a JSON {type(value).__name__}; a dialogue is an object with `messages`")
    try:
        return Dialogue.model_validate(value)
    except ValidationError as error:
        raise ValueError("\n".join(_reasons(error))) from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            stripped = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
            if stripped:
                yield number, stripped


def read_jsonl(path: Path, problems: list[str]) -> list[Dialogue]:
    """The dialogues of one file; every bad line is added to `problems` as `file:line: reason`."""
    found: list[Dialogue] = []
    before = len(problems)
    try:
        for number, line in _lines(path):
            where = f"{path}:{number}"
            try:
                dialogue = _parse(line)
            except ValueError as error:
                problems.extend(f"{where}: {reason}" for reason in str(error).split("\n"))
                continue
            dialogue._where = where
            found.append(dialogue)
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
        return []
    if not found and len(problems) == before:
        problems.append(f"{path}: holds no dialogue")
    return found


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
    problems: list[str] = []
    dialogues: list[Dialogue] = []
    for path in data_files(sources, held_out):
        dialogues.extend(read_jsonl(path, problems))
    first_place: dict[str, str] = {}
    for dialogue in dialogues:
        if dialogue.id is None:
            continue
        if dialogue.id in first_place:
            problems.append(f"{dialogue.where}: id {dialogue.id!r} is already used at {first_place[dialogue.id]}")
        else:
            first_place[dialogue.id] = dialogue.where
    if problems:
        raise BadData(problems)
    return dialogues


def write_jsonl(path: Path, dialogues: Iterable[Dialogue]) -> None:
    """Write dialogues, one a line, atomically."""
    write_text(path, "".join(dialogue.model_dump_json(exclude_none=True) + "\n" for dialogue in dialogues))


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
