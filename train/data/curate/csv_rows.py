"""The rows of a CSV file: a torn one is told with its line, and reading goes on at the next line that is a row by itself."""

import csv
from collections import deque
from collections.abc import Iterator
from typing import IO, NamedTuple

from assistant.jsonl import MAX_LINE_BYTES

DELIMITERS = ",;\t|"
_HEAD = 65_536
csv.field_size_limit(2 * MAX_LINE_BYTES)  # Rows that are too long are told here, with their place.


class Header(NamedTuple):
    """What the first line says."""

    names: list[str]
    delimiter: str


class _TooLong(Exception):
    pass


def csv_header(stream: IO[bytes], wanted: frozenset[str]) -> Header:
    """A file's columns, by the delimiter that gives most of those that are wanted; `stream` stands at the beginning."""
    stream.seek(0)
    first = next((line for line in iter(lambda: stream.readline(_HEAD), b"") if line.strip()), b"")
    head = first.decode("utf-8-sig", "replace")
    found = [Header(_parsed(head, delimiter) or [], delimiter) for delimiter in DELIMITERS]
    named = [Header([name.strip() for name in header.names], header.delimiter) for header in found]
    return max(named, key=lambda header: (len(wanted & set(header.names)), len(header.names)))


def _parsed(line: str, delimiter: str) -> list[str] | None:
    """One line as a whole row, or None where it is none."""
    try:
        rows = list(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


class _Lines:
    """The physical lines of a stream, of which some can be given back."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._again: deque[bytes] = deque()
        self.taken: list[bytes] = []
        """Those of the row that is being read."""
        self.size = 0
        """Bytes of those."""

    def row(self) -> Iterator[str]:
        """Lines for the row that begins now. Raises _TooLong."""
        self.taken, self.size = [], 0
        while line := self._again.popleft() if self._again else self._stream.readline(MAX_LINE_BYTES + 1):
            self.taken.append(line)
            self.size += len(line)
            if self.size > MAX_LINE_BYTES:
                raise _TooLong
            yield line.decode("utf-8", "surrogateescape")

    def give_back(self, lines: list[bytes]) -> None:
        self._again.extendleft(reversed(lines))

    def skip_line(self) -> int:
        """Pass over the rest of a line; returns how many bytes that are."""
        size, part = 0, self.taken[-1]
        while not part.endswith(b"\n") and (part := self._stream.readline(MAX_LINE_BYTES)):
            size += len(part)
        return size


def _bad_bytes(fields: list[str]) -> str | None:
    """What is no UTF-8 in a row, or None."""
    wrong = next((c for field in fields for c in field if "\udc80" <= c <= "\udcff"), None)
    if wrong is None:
        return None
    return f"not UTF-8: holds the byte 0x{ord(wrong) - 0xDC00:02x}; convert the file first (iconv -f WINDOWS-1252 -t UTF-8)"


def csv_rows(
    stream: IO[bytes], header: Header, offset: int, line: int
) -> Iterator[tuple[int, dict[str, str] | str, int, int]]:
    """Each row with the line it begins in: its values, or what is wrong with it; and the offset and line after it."""
    stream.seek(offset)
    source = _Lines(stream)
    before_header = offset == 0
    while True:
        reason: str | None = None
        fields: list[str] = []
        try:
            fields = next(csv.reader(source.row(), delimiter=header.delimiter, strict=True))
        except StopIteration:
            return
        except _TooLong:
            more = source.skip_line()
            size = source.size + more
            reason = (
                f"a row of {size / 1e6:,.1f} MB or an open quotation mark; one may have {MAX_LINE_BYTES / 1e6:.0f} MB"
            )
            offset += more
        except csv.Error as error:
            reason = "a quotation mark is not closed" if "end of data" in str(error) else f"no CSV: {error}"
        if reason is None and len(fields) not in (0, len(header.names)):
            reason = f"has {len(fields)} values, but there are {len(header.names)} columns"
        if reason is not None:
            _resume(source, header)
        begin = line + 1
        offset += sum(map(len, source.taken))
        line += len(source.taken)
        reason = reason or _bad_bytes(fields)
        if before_header and fields:
            before_header = False
            continue
        if reason is not None or fields:
            yield begin, reason or dict(zip(header.names, fields, strict=True)), offset, line


def _resume(source: _Lines, header: Header) -> None:
    """After a torn row: give back what begins with the first line that is a whole row by itself."""
    for number, raw in enumerate(source.taken[1:], 1):
        fields = _parsed(raw.decode("utf-8", "surrogateescape"), header.delimiter)
        if fields is not None and len(fields) == len(header.names):
            source.give_back(source.taken[number:])
            source.taken = source.taken[:number]
            return
