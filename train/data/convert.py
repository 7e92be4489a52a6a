"""`thousand data convert`: dialogues from any known format into any other; what cannot be said there is reported."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assistant.dialogue import Dialogue
from assistant.errors import BadData, ThousandError
from assistant.files import write_text
from assistant.jsonl import lines, parse_object, validated
from train.data.formats import FORMATS, format_of


@dataclass
class Converted:
    """What a conversion did."""

    written: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    """Formats that were read, with the number of lines of each."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Fields that the target has no place for, with the number of dialogues that had them."""
    problems: list[str] = field(default_factory=list)
    """`file:line: reason` of each that could not be converted."""


def _array_items(path: Path) -> Iterator[tuple[int, Any]]:
    """The items of a JSON array with the line each begins in. Raises ValueError as `line: reason` where it is not JSON."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:1: not UTF-8: byte {error.start + 1} of the file; save the file as UTF-8") from None
    decoder = json.JSONDecoder()
    position, line = text.index("[") + 1, 1
    counted = 0
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        line += text.count("\n", counted, position)
        counted = position
        if text[position : position + 1] == "]":
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}:{line}: not JSON: {error}") from None
        yield line, value


def _objects(path: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a `.jsonl` file or of a JSON array, each with its `file:line`."""
    with path.open("rb") as file:
        is_array = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    if is_array:
        try:
            for line, value in _array_items(path):
                if isinstance(value, dict):
                    yield f"{path}:{line}", value
                else:
                    problems.append(f"{path}:{line}: is a JSON {type(value).__name__}; a dialogue is an object")
        except ValueError as error:
            problems.append(str(error))
        return
    for number, raw in lines(path):
        try:
            yield f"{path}:{number}", parse_object(raw)
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")


def read_any(path: Path) -> tuple[list[Dialogue], Converted]:
    """The dialogues of a file in any known format, told line by line from what stands there.

    Raises ThousandError when the file cannot be read.
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
                done.problems.extend(f"{where}: {reason}" for reason in str(error).split("\n"))
                continue
            dialogue._where = where
            if dialogue.id is not None and places.setdefault(dialogue.id, where) != where:
                done.problems.append(f"{where}: id {dialogue.id!r} is already used at {places[dialogue.id]}")
                continue
            done.formats[name] += 1
            done.left_out.update(left)
            dialogues.append(dialogue)
    except OSError as error:
        raise ThousandError(f"{path}: cannot be read: {error.strerror}.") from None
    if not dialogues and not done.problems:
        done.problems.append(f"{path}: holds no dialogue")
    return dialogues, done


def convert(source: Path, target: Path, to: str, skip_bad: bool) -> Converted:
    """Write the dialogues of `source` to `target` in the format `to`: a JSON array where its name ends in `.json`, else JSONL.

    Raises BadData, and writes nothing, when a line cannot be converted and `skip_bad` is not set; ThousandError when the
    target exists already or the source cannot be read.
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
            done.problems.append(f"{dialogue.where}: {error}")
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
