"""Reading files of rows as a stream: CSV, JSON lines and Parquet; what cannot be read is told with its place, and the rest goes on."""

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from assistant.errors import BadData, ThousandError
from assistant.jsonl import MAX_LINE_BYTES, Problem, lines
from train.data.curate.csv_rows import csv_header, csv_rows
from train.data.curate.dump import MOST_GROWTH

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_HEAD = 65_536
_LOOKED_AT = 100
"""Lines of JSON that say which columns there are."""
_BATCH = 200
"""Rows of Parquet that are in memory at a time."""
Value = bytes | dict[str, Any]


class Raw(NamedTuple):
    """A row as it stands in a file."""

    place: int
    """Its line, or in Parquet its row, from 1."""
    value: Value
    """Of JSON the line itself, which is decoded on another core."""


class Step(NamedTuple):
    """What was read, and where reading goes on after it."""

    found: Raw | Problem
    offset: int
    """Bytes, or rows of Parquet."""
    line: int


def kind_of(path: Path) -> str:
    """The ending that says how a file is read, without `.gz`."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def size_of(path: Path) -> int:
    """What `offset` goes up to, for a bar: bytes, unpacked, or rows of Parquet."""
    if kind_of(path) == ".parquet":
        return int(_parquet(path).metadata.num_rows)
    if path.suffix != ".gz":
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(), "little")  # modulo 4 GB (RFC 1952)


def stamp(path: Path) -> str:
    """Changes when the file does."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def usable(files: Sequence[Path], wanted: frozenset[str]) -> tuple[list[Path], list[Problem]]:
    """The files that can be read, and why the others cannot.

    Raises BadData naming each that is missing, of another kind or without a column, and each second one of a name; and when
    none can be read.
    """
    good: list[Path] = []
    wrong: list[Problem] = []
    bad: list[Problem] = []
    names: dict[str, Path] = {}
    for file in files:
        other = names.setdefault(file.name.partition(".")[0], file)
        try:
            if other is not file:
                raise ThousandError(f"is called as {other} is; rename one, since ids begin with the name")
            _existing(file)
            reason = _unreadable(file)
            if reason is None:
                _with_columns(file, wanted)
                good.append(file)
            else:
                bad.append(Problem(str(file), reason))
        except ThousandError as error:
            wrong.append(Problem(str(file), str(error)))
    if wrong or not good:
        raise BadData([*wrong, *bad])
    return good, bad


def _existing(path: Path) -> None:
    if not path.is_file():
        raise ThousandError("there is no such file")
    if kind_of(path) not in KINDS:
        raise ThousandError(f"is none of {', '.join(KINDS)}, nor one of those packed by gzip; convert it first")


def _with_columns(path: Path, wanted: frozenset[str]) -> None:
    there = columns_of(path, wanted)
    missing = sorted(wanted - set(there))
    twice = sorted(name for name in wanted if there.count(name) > 1)
    if missing:
        columns = f"columns {', '.join(map(repr, missing))}" if len(missing) > 1 else f"column {missing[0]!r}"
        raise ThousandError(f"has no {columns}; it has {', '.join(map(repr, there)) or 'none'}")
    if twice:
        raise ThousandError(f"has the column {', '.join(map(repr, twice))} twice; rename one")


def _unreadable(path: Path) -> str | None:
    """Why nothing of a file can be read, or None. Raises ThousandError where something is missing to read it."""
    if kind_of(path) == ".parquet":
        return _damaged_parquet(path)
    try:
        with opened(path) as stream:
            # By lines: of a file that breaks off within the head the lines before are read.
            head = next((line for line in iter(lambda: stream.readline(_HEAD), b"") if line.strip()), b"")
    except (OSError, EOFError, zlib.error) as error:
        return f"cannot be read: {error}"
    return _bad_head(head, kind_of(path))


def _bad_head(head: bytes, kind: str) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16; convert it first (iconv -f UTF-16 -t UTF-8)"
    if not head.strip():
        return "is empty"
    if b"\0" in head:
        return "holds zero bytes, so it is no text; give the file itself, unpacked"
    if b"\r" in head and b"\n" not in head:
        return "has lines that end on CR alone; convert it first (tr '\\r' '\\n')"
    if kind.endswith(("jsonl", "ndjson")) and head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return "is one JSON array; write one object a line first (jq -c '.[]')"
    return None


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked on the way."""
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as unpacked:
            yield unpacked  # type: ignore[misc]
    else:
        with path.open("rb") as file:
            yield file


def _parquet(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path)


def _damaged_parquet(path: Path) -> str | None:
    try:
        import pyarrow
    except ImportError:
        raise ThousandError(
            "reading Parquet needs pyarrow: pip install -c constraints.txt pyarrow; or convert it to CSV"
        ) from None
    try:
        _parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        return f"is no Parquet file, or a damaged one ({str(error).splitlines()[0]})"
    return None


def columns_of(path: Path, wanted: frozenset[str]) -> list[str]:
    """The columns of a file; of CSV with the delimiter that gives those that are wanted."""
    if kind_of(path) == ".parquet":
        return list(_parquet(path).schema_arrow.names)
    with opened(path) as stream:
        if kind_of(path) in (".csv", ".tsv"):
            return csv_header(stream, wanted).names
        found: dict[str, None] = {}
        for number, line in enumerate(lines(stream)):
            try:
                value = json.loads(line.text)
            except (ValueError, RecursionError):
                continue
            found.update(dict.fromkeys(value if isinstance(value, dict) else ()))
            if number == _LOOKED_AT:
                break
        return list(found)


def read(path: Path, wanted: frozenset[str], whole: bool, offset: int, line: int) -> Iterator[Step]:
    """The rows of a file from where an earlier reading ended (0 and 0: the beginning).

    They have the columns `wanted`, and perhaps others; if `whole`, all.
    """
    if kind_of(path) == ".parquet":
        yield from _parquet_rows(path, None if whole else sorted(wanted), offset)
        return
    limit = MOST_GROWTH * path.stat().st_size
    with opened(path) as stream:
        try:
            if kind_of(path) in (".csv", ".tsv"):
                steps: Iterator[Step] = (
                    Step(Problem(f"{path}:{at}", found) if isinstance(found, str) else Raw(at, found), *after)
                    for at, found, *after in csv_rows(stream, csv_header(stream, wanted), offset, line)
                )
            else:
                steps = _json_lines(stream, path, offset, line)
            for step in steps:
                yield step
                offset, line = step.offset, step.line
                if path.suffix == ".gz" and offset > limit:
                    yield _end(path, offset, line, f"would unpack to more than {MOST_GROWTH} times its size")
                    return
        except (OSError, EOFError, zlib.error) as error:
            yield _end(path, offset, line, f"breaks off or is damaged after line {line:,}: {error}")


def _end(path: Path, offset: int, line: int, reason: str) -> Step:
    return Step(Problem(f"{path}: byte {offset:,}", f"{reason}; nothing behind it is read"), offset, line)


def _json_lines(stream: IO[bytes], path: Path, offset: int, before: int) -> Iterator[Step]:
    stream.seek(offset)
    for line in lines(stream):
        number = before + line.number
        found: Raw | Problem = Raw(number, line.text)
        if line.size > MAX_LINE_BYTES:
            reason = f"a line of {line.size / 1e6:,.1f} MB; one may have {MAX_LINE_BYTES / 1e6:.0f} MB"
            found = Problem(f"{path}:{number}", reason)
        yield Step(found, stream.tell(), number)


def _parquet_rows(path: Path, columns: list[str] | None, offset: int) -> Iterator[Step]:
    import pyarrow

    file = _parquet(path)
    before = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        row = before
        before += rows
        if before <= offset:
            continue
        try:
            for batch in file.iter_batches(_BATCH, row_groups=[group], columns=columns):
                for value in batch.to_pylist():
                    row += 1
                    if row > offset:
                        yield Step(Raw(row, value), row, row)
        # ValueError: a time that Python's datetime cannot hold.
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            reason = f"rows {row + 1:,} to {before:,} cannot be read: {str(error).splitlines()[0]}"
            yield Step(Problem(f"{path}: row {row + 1:,}", reason), before, before)
