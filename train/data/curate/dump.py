"""Finding the tables of a Stack Exchange dump: folders and `.7z` archives, one a site."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from assistant.errors import BadData, ThousandError
from assistant.jsonl import Problem
from train.data.curate.rows import Block, blocks
from train.data.curate.sites import short_name

TableName = Literal["Posts", "Comments", "Users"]
_NAMES: tuple[TableName, ...] = ("Posts", "Comments", "Users")
MOST_GROWTH = 200
"""Times its size to which an archive may unpack. Dumps unpack to four to ten times theirs."""


@dataclass(frozen=True)
class Table:
    """One table of a site."""

    site: str
    name: TableName
    path: Path
    """The file, or the archive that holds it."""
    size: int
    """Bytes, unpacked."""
    packed: bool

    @property
    def where(self) -> str:
        return f"{self.path}/{self.name}.xml" if self.packed else str(self.path)

    @property
    def stamp(self) -> str:
        """Changes when the file does."""
        status = self.path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"


class _Damaged(Exception):
    """Why an archive, or the rest of it, cannot be read."""


def _archive(path: Path) -> Iterator[Table]:
    try:
        import py7zr
    except ImportError:
        raise ThousandError(
            f"{path}: reading .7z needs py7zr: pip install -c constraints.txt py7zr; or unpack it first."
        ) from None
    try:
        with py7zr.SevenZipFile(path) as archive:
            sizes = {item.filename: item.uncompressed for item in archive.list()}
    except (py7zr.exceptions.ArchiveError, OSError, EOFError, ValueError) as error:
        raise _Damaged(f"is no .7z archive, or a damaged one ({error}); get it anew") from None
    if sum(sizes.values()) > MOST_GROWTH * path.stat().st_size:
        raise _Damaged(f"would unpack to more than {MOST_GROWTH} times its size, which no dump does; leave it out")
    site, _, only = path.stem.rpartition("-") if path.stem.endswith(_NAMES) else (path.stem, "", "")
    for name in _NAMES:
        if f"{name}.xml" in sizes and only in ("", name):
            yield Table(short_name(site), name, path, sizes[f"{name}.xml"], packed=True)


def _folder(path: Path) -> Iterator[Table]:
    for name in _NAMES:
        file = path / f"{name}.xml"
        if file.is_file():
            yield Table(short_name(path.resolve().name), name, file, file.stat().st_size, packed=False)


def find_tables(sources: Sequence[Path]) -> tuple[dict[str, dict[TableName, Table]], list[Problem]]:
    """The tables of every site in `sources`: a site's folder, an archive, or a folder of those; and what of them holds no dump.

    Raises BadData naming each source that is not there and each site given twice; and when there is no dump in any.
    """
    found: dict[str, dict[TableName, Table]] = {}
    wrong: list[Problem] = []
    bad: list[Problem] = []
    for source in sources:
        if not source.exists():
            wrong.append(Problem(str(source), "there is no such file or folder"))
            continue
        tables = list(_folder(source))
        known = len(bad)
        for path in [source, *(sorted(source.iterdir()) if source.is_dir() else [])]:
            try:
                if path.suffix == ".7z" and path.is_file():
                    tables.extend(_archive(path))
                elif path is not source and path.is_dir():
                    tables.extend(_folder(path))
            except _Damaged as error:
                bad.append(Problem(str(path), str(error)))
        if not any(table.name == "Posts" for table in tables) and len(bad) == known:
            reason = "holds no Posts.xml; give a site's folder, its .7z, or a folder of those"
            bad.append(Problem(str(source), reason))
        for table in tables:
            other = found.setdefault(table.site, {}).setdefault(table.name, table)
            if other.path.resolve() != table.path.resolve():
                reason = f"{table.name} of {table.site} is already at {other.path}; give one of them"
                wrong.append(Problem(str(table.path), reason))
    sites = {site: tables for site, tables in sorted(found.items()) if "Posts" in tables}
    if wrong or not sites:
        raise BadData([*wrong, *bad])
    return sites, bad


def read_blocks(table: Table, offset: int = 0) -> Iterator[Block | Problem]:
    """The rows of a table from byte `offset` on; that an archive cannot be unpacked to its end is told as the last."""
    try:
        with _opened(table, offset) as stream:
            yield from blocks(stream, table.where, offset)
    except _Damaged as error:
        yield Problem(table.where, str(error))


@contextmanager
def _opened(table: Table, offset: int) -> Iterator[IO[bytes]]:
    """A table's bytes from `offset` on, as a stream; an archive is unpacked on the way and never as a whole."""
    if not table.packed:
        with table.path.open("rb") as file:
            file.seek(offset)
            yield file
        return
    with _unpacked(table.path, f"{table.name}.xml") as stream:
        while offset > 0 and (skipped := stream.read(min(offset, 1 << 20))):
            offset -= len(skipped)
        yield stream


@contextmanager
def _unpacked(path: Path, member: str) -> Iterator[IO[bytes]]:
    """A file of an archive through a pipe that a thread fills. Raises _Damaged."""
    from train.data.curate.seven_zip import unpack

    inlet, outlet = os.pipe()[::-1]
    failures: list[Exception] = []
    thread = threading.Thread(target=unpack, args=(path, member, inlet, failures), daemon=True)
    thread.start()
    try:
        with os.fdopen(outlet, "rb") as stream:
            yield stream
    finally:
        thread.join()
    if failures:
        raise _Damaged(f"cannot be unpacked to its end ({failures[0]}); get the archive anew")
