"""`thousand data convert`: dialogues from any known format into any other; what cannot be said there is reported."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from assistant.dialogue import Dialogue
from assistant.errors import BadData, ThousandError
from assistant.files import write_text
from assistant.jsonl import DECODER, Problem, as_object, lines, parse_object, validated
from train.data.formats import FORMATS, format_of


@dataclass
class Converted:
    """What a conversion did."""

    written: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    """Formats that were read, with the number of lines of each."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Fields that the target has no place for, with the number of dialogues that had them."""
    problems: list[Problem] = field(default_factory=list)
    """Each line that could not be converted."""


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _array_items(path: Path, data: bytes) -> Iterator[tuple[str, object]]:
    """The items of a JSON array, each with the `file:line` it begins in.

    Raises BadData where the file is no JSON array: what follows there cannot be told apart.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadData([Problem(f"{path}:{line}", "not UTF-8; save the file as UTF-8")]) from None
    line, counted = 1, 0
    position = _after_space(text, _after_space(text, 0) + 1)
    more = text[position : position + 1] != "]"
    while more:
        line += text.count("\n", counted, position)
        counted = position
        where = f"{path}:{line}"
        try:
            value, position = DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise BadData([Problem(where, f"not JSON: {error}; nothing after it can be read")]) from None
        yield where, value
        position = _after_space(text, position)
        more = text[position : position + 1] == ","
        if more:
            position = _after_space(text, position + 1)
    line += text.count("\n", counted, position)
    if text[position : position + 1] != "]":
        raise BadData([Problem(f"{path}:{line}", "not JSON: a comma or the array's end is missing")])
    if text[position + 1 :].strip():
        raise BadData([Problem(f"{path}:{line}", "something follows the end of the array; give one array a file")])


def _objects(path: Path, problems: list[Problem]) -> Iterator[tuple[str, dict[str, object]]]:
    """The objects of a `.jsonl` file or of a JSON array, each with its `file:line`."""
    # Read once: a pipe cannot be opened twice.
    data = path.read_bytes()
    if data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        for where, value in _array_items(path, data):
            try:
                yield where, as_object(value)
            except ValueError as error:
                problems.append(Problem(where, str(error)))
        return
    for line in lines(io.BytesIO(data)):
        where = f"{path}:{line.number}"
        try:
            yield where, parse_object(line)
        except ValueError as error:
            problems.append(Problem(where, str(error)))


def read_any(path: Path) -> tuple[list[Dialogue], Converted]:
    """The dialogues of a file in any known format, told line by line from what stands there.

    Raises ThousandError when the file cannot be read, BadData when it is a JSON array that is torn.
    """
    done = Converted()
    dialogues: list[Dialogue] = []
    places: dict[str, str] = {}
    try:
        for where, value in _objects(path, done.problems):
            try:
                name = format_of(value)
                fields, left = FORMATS[name].read(value)
                dialogue = validated(fields, Dialogue)
            except ValueError as error:
                done.problems.extend(Problem(where, reason) for reason in str(error).split("\n"))
                continue
            dialogue._where = where
            if dialogue.id is not None and places.setdefault(dialogue.id, where) != where:
                done.problems.append(Problem(where, f"id {dialogue.id!r} is already used at {places[dialogue.id]}"))
                continue
            done.formats[name] += 1
            done.left_out.update(left)
            dialogues.append(dialogue)
    except OSError as error:
        raise ThousandError(f"{path}: cannot be read: {error.strerror}.") from None
    if not dialogues and not done.problems:
        done.problems.append(Problem(str(path), "holds no dialogue"))
    return dialogues, done


def convert(source: Path, target: Path, to: str, skip_bad: bool) -> Converted:
    """Write the dialogues of `source` to `target` in the format `to`: a JSON array where its name ends in `.json`, else JSONL.

    Raises BadData, and writes nothing, when a line cannot be converted and `skip_bad` is not set, or when nothing can be;
    ThousandError when the target exists already or the source cannot be read.
    """
    if target.exists():
        raise ThousandError(f"{target} exists already; give another name, or remove it first.")
    dialogues, done = read_any(source)
    objects = []
    form = FORMATS[to]
    for dialogue in dialogues:
        try:
            objects.append(form.write(dialogue))
        except ValueError as error:
            done.problems.append(Problem(dialogue.where, str(error)))
            continue
        done.left_out.update(dialogue.model_dump(exclude_none=True).keys() - form.keeps - {"messages"})
    if done.problems and not (skip_bad and objects):
        raise BadData(done.problems)
    if target.suffix == ".json":
        text = json.dumps(objects, ensure_ascii=False, indent=1) + "\n"
    else:
        text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in objects)
    write_text(target, text)
    done.written = len(objects)
    return done
