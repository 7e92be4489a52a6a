"""Reading the rows of a dump's table as a stream: what cannot be read is told with its place, and the rest goes on.

A table is `<posts>`, one `<row .../>` after another, and `</posts>`. In well-formed XML `<` cannot stand inside a value,
so a row ends where the next one begins, however torn it is. Each row is parsed by itself: nothing that a file
declares (entities) can reach it, and a bad row spoils no other.
"""

import re
from collections.abc import Iterator
from typing import IO, NamedTuple
from xml.parsers import expat

from assistant.jsonl import Problem

BLOCK = 4_000_000
"""Bytes of whole rows that are read, and handed to a core, at a time."""
MOST_ROW = 4_000_000
"""Bytes of one row. A post may have 30,000 characters."""
_ROW = b"<row "
_HEAD = 65_536
_ENCODING = re.compile(rb"""<\?xml[^>]*encoding=["']([\w.-]+)["']""")
_END = re.compile(rb"</[a-z]+>\s*\Z")


class Block(NamedTuple):
    """Whole rows that stand one after another."""

    offset: int
    """Where they begin in the table, in bytes."""
    data: bytes
    next: int
    """Where reading goes on after them."""


class Row(NamedTuple):
    """One row's values by name."""

    offset: int
    values: dict[str, str]


def place(path: str, offset: int) -> str:
    return f"{path}: byte {offset:,}"


def _refusal(head: bytes) -> str | None:
    """What makes a whole table unreadable, told from its beginning."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16; a dump is UTF-8: convert it first (iconv -f UTF-16 -t UTF-8)"
    declared = _ENCODING.search(head)
    if declared and declared[1].lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        name = declared[1].decode()
        return f"says it is {name}; a dump is UTF-8: convert it first (iconv -f {name} -t UTF-8)"
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
        return "declares a document type, as no dump does (entities can be made to fill any memory); remove it, or get the dump anew"
    if _ROW not in head:
        return "holds no <row .../>; it is no table of a dump"
    return None


def blocks(stream: IO[bytes], path: str, offset: int = 0) -> Iterator[Block | Problem]:
    """The rows of a table from byte `offset` on, where `stream` stands; memory does not grow with the table or a row."""
    data = stream.read(BLOCK)
    if offset == 0:
        refusal = _refusal(data[:_HEAD])
        if refusal:
            yield Problem(path, refusal)
            return
        offset = data.find(_ROW)
        data = data[offset:]
    while True:
        more = stream.read(BLOCK)
        data += more
        cut = data.rfind(_ROW) if more else len(data)
        if not more:
            break
        if cut > 0:
            yield Block(offset, data[:cut], offset + cut)
            offset, data = offset + cut, data[cut:]
        elif len(data) > MOST_ROW:
            size, data = _skip_row(stream, data)
            yield Problem(place(path, offset), f"a row of {size / 1e6:,.1f} MB; one may have {MOST_ROW / 1e6:.0f} MB")
            offset += size
    end = _END.search(data)
    if data:
        yield Block(offset, data[: end.start()] if end else data, offset + len(data))
    if not end:
        yield Problem(place(path, offset + len(data)), "the table breaks off here: its closing tag is missing")


def _skip_row(stream: IO[bytes], data: bytes) -> tuple[int, bytes]:
    """The size of a row that is too long, of which `data` is the beginning, and what was read of the rest of the table."""
    size = len(data)
    tail = data[-len(_ROW) :]
    while more := stream.read(BLOCK):
        found = (tail + more).find(_ROW)
        if found >= 0:
            return size - len(tail) + found, (tail + more)[found:]
        size += len(more)
        tail = (tail + more)[-len(_ROW) :]
    end = _END.search(tail)  # The last row: keep the table's closing tag for the caller to see.
    return (size, b"") if not end else (size - len(tail) + end.start(), tail[end.start() :])


def _values(row: bytes) -> dict[str, str]:
    """A row's values. Raises ValueError with the reason."""
    if len(row) > MOST_ROW:
        raise ValueError(f"a row of {len(row) / 1e6:,.1f} MB; one may have {MOST_ROW / 1e6:.0f} MB")
    found: list[dict[str, str]] = []
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = lambda name, values: found.append(values)
    try:
        parser.Parse(row, True)
    except expat.ExpatError as error:
        raise ValueError(f"no XML: {expat.ErrorString(error.code)} at its byte {error.offset}") from None
    return found[0]


def rows(block: Block, path: str, problems: list[Problem]) -> Iterator[Row]:
    """The rows of a block; each that cannot be read is added to `problems`."""
    begin = block.data.find(_ROW)
    while begin >= 0:
        end = block.data.find(_ROW, begin + 1)
        row = block.data[begin : end if end >= 0 else None]
        try:
            yield Row(block.offset + begin, _values(row))
        except ValueError as error:
            problems.append(Problem(place(path, block.offset + begin), str(error)))
        begin = end
