"""Reading and writing `.jsonl` files of typed records: every bad line is reported as `file:line: reason`, all at once."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from assistant.files import write_text

MAX_LINE_BYTES = 4_000_000
_SURROGATE = re.compile("[\ud800-\udfff]")


class Problem(NamedTuple):
    """Something wrong with a file or one line of it."""

    where: str
    """`file:line`, or the file."""
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


def shown(value: object) -> str:
    """A value as an error names it: of a long one only the beginning."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


class Record(BaseModel):
    """What every line of a data file has, whatever else it holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    PARTS: ClassVar[dict[str, type[BaseModel]]] = {}
    """The types of the fields that are objects themselves, so that an error can name the fields they know."""

    id: str | None = Field(None, min_length=1, max_length=200, description="No two the same in one run.")
    source: str | None = Field(None, description="Where it comes from; for people.")
    topic: str | None = Field(None, description="What it is about; for people.")
    license: str | None = Field(None, description="An SPDX identifier; for people.")

    _where: str = PrivateAttr("")

    @property
    def where(self) -> str:
        """`file:line` of a record that was read from a file, else its id."""
        return self._where or self.id or "dialogue"


RecordT = TypeVar("RecordT", bound=Record)


def _reasons(error: ValidationError, kind: type[Record]) -> Iterator[str]:
    for item in error.errors():
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
        if item["type"] == "extra_forbidden":
            owner: type[BaseModel] = kind
            for part in item["loc"][:-1]:
                owner = kind.PARTS.get(str(part), owner)
            yield f"{place}: unknown field; known are {', '.join(owner.model_fields)}"
        elif item["type"] == "missing":
            yield f"{place}: is missing"
        elif item["type"] == "literal_error":
            yield f"{place}: is {item['input']!r}; it must be {item['ctx']['expected']}"
        else:
            yield f"{place}: {item['msg'].removeprefix('Value error, ')}" if place else item["msg"]


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice in one object"
        )
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON value")


DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def as_object(value: object) -> dict[str, object]:
    """A decoded value as an object of text that can be written again. Raises ValueError with the reason."""
    if not isinstance(value, dict):
        raise ValueError(f"is a JSON {type(value).__name__}; a dialogue is an object with `messages`")
    if _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("holds half a surrogate pair, which is not text")
    return value


class Line(NamedTuple):
    """One line of a file that is not blank."""

    number: int
    """From 1."""
    text: bytes
    """Without white space around it; only the beginning of a line that is too long."""
    size: int
    """Bytes, all of them."""


def parse_object(line: Line) -> dict[str, object]:
    """One line as a JSON object. Raises ValueError with the reason."""
    if line.size > MAX_LINE_BYTES:
        raise ValueError(f"the line has {line.size / 1e6:.1f} MB; a dialogue may have {MAX_LINE_BYTES / 1e6:.0f} MB")
    try:
        text = line.text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not UTF-8: byte {error.start + 1} of the line is 0x{line.text[error.start]:02x}; save the file as UTF-8"
        ) from None
    try:
        value = DECODER.decode(text)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    return as_object(value)


def validated(value: dict[str, object], kind: type[RecordT]) -> RecordT:
    """An object as a record. Raises ValueError with every reason, one a line of its message."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ValueError("\n".join(_reasons(error, kind))) from None


def lines(file: IO[bytes]) -> Iterator[Line]:
    """The lines of a file that are not blank; a byte-order mark is left out, and no more than a dialogue's size is kept."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        size, rest = len(raw), raw
        while not rest.endswith(b"\n") and (rest := file.readline(MAX_LINE_BYTES)):
            size += len(rest)
        text = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).strip()
        if text:
            yield Line(number, text, size if size > len(raw) else len(text))


def read_records(path: Path, kind: type[RecordT], problems: list[Problem]) -> list[RecordT]:
    """The records of one file; every bad line is added to `problems`."""
    found: list[RecordT] = []
    before = len(problems)
    try:
        with path.open("rb") as file:
            for line in lines(file):
                where = f"{path}:{line.number}"
                try:
                    record = validated(parse_object(line), kind)
                except ValueError as error:
                    problems.extend(Problem(where, reason) for reason in str(error).split("\n"))
                    continue
                record._where = where
                found.append(record)
    except OSError as error:
        problems.append(Problem(str(path), f"cannot be read: {error.strerror}"))
        return []
    if not found and len(problems) == before:
        problems.append(Problem(str(path), "holds no dialogue"))
    return found


def repeated_ids(records: Iterable[Record]) -> Iterator[Problem]:
    """A problem for every id that stands a second time."""
    first_place: dict[str, str] = {}
    for record in records:
        if record.id is None:
            continue
        if record.id in first_place:
            yield Problem(record.where, f"id {record.id!r} is already used at {first_place[record.id]}")
        else:
            first_place[record.id] = record.where


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records, one a line, atomically."""
    write_text(path, "".join(record.model_dump_json(exclude_none=True) + "\n" for record in records))
