"""What the rows of a file hold, judged, in a database on the disk: memory does not grow with the file, and a run goes on
where it ended."""

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol

from assistant.jsonl import Problem
from train.data.curate.choose import Candidate, Part
from train.data.curate.cores import in_order
from train.data.curate.files import Raw, Step, read, stamp
from train.data.curate.report import Funnel
from train.data.curate.row_rules import Finding
from train.data.curate.staging import MOST_PROBLEMS

PIECE = 1_000_000
"""Bytes of rows that are handed to a core at a time."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (stamp TEXT);
CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, offset INT, line INT, bad INT, done INT);
CREATE TABLE IF NOT EXISTS problems (place TEXT, reason TEXT);
CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE, place TEXT, part TEXT, score REAL, turns INT,
    rule TEXT, found TEXT, prompt BLOB, answer BLOB, packed BLOB);
CREATE INDEX IF NOT EXISTS items_by ON items (part, rule, score DESC, number);
"""
_TWICE = """
UPDATE items SET rule = :rule, found = 'says the same as that of ' || best.id FROM (
    SELECT number, first_value(id) OVER same AS id, row_number() OVER same AS place FROM items WHERE rule IS NULL
    WINDOW same AS (PARTITION BY {key} ORDER BY score DESC, number)
) AS best WHERE items.number = best.number AND best.place > 1
"""
DUPLICATES = {
    "duplicate-prompt": "prompts that say the same as one with a higher score",
    "duplicate-answer": "answers that say the same as one with a higher score",
}


class Item(NamedTuple):
    """A judged row."""

    id: str
    place: str
    """`file:line`."""
    part: str
    score: float
    rule: str | None
    """The first rule that drops it."""
    found: str | None
    """What that rule found."""
    keys: tuple[bytes, bytes] = (b"", b"")
    """Equal where prompts, or first answers, say the same."""
    said: tuple[str, ...] = ()
    """Prompt and answer in turn; of one that is dropped nothing."""
    credits: tuple[dict[str, str], ...] = ()
    """What its texts' licences ask to be said of them, for all at once or for each: the fields of a Work."""


class Judged(NamedTuple):
    """What a piece of a file holds."""

    items: list[Item]
    problems: list[Problem]


class Piece(NamedTuple):
    """Rows that stand one after another."""

    steps: list[Step]

    @property
    def raws(self) -> list[Raw]:
        return [step.found for step in self.steps if isinstance(step.found, Raw)]

    @property
    def problems(self) -> list[Problem]:
        return [step.found for step in self.steps if isinstance(step.found, Problem)]


class Judge(Protocol):
    """What the rows of a file are."""

    def __call__(self, file: str, raws: list[Raw]) -> Judged:
        """The items of some rows of a file, by its path; runs in a process of its own."""

    def findings(self, raws: list[Raw]) -> Iterator[Finding]:
        """What each rule says of the rows of one item."""


Joined = Callable[[Raw, Raw], bool]
"""Whether two rows that follow one another belong to one item, and so to one piece."""


def apart(before: Raw, after: Raw) -> bool:
    """Each row is an item by itself."""
    return False


@dataclass(frozen=True)
class Kind:
    """A kind of files, and what becomes of them."""

    name: str
    """Of the file of examples, and in their `source`."""
    wanted: frozenset[str]
    """Columns that must be there."""
    judge: Judge
    rules: Mapping[str, str]
    """What each drops, in their order."""
    changes: str
    """What is done to the texts."""
    whole: bool = False
    """Whether the judge looks at other columns too."""
    joined: Joined = apart


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """The database of a run, made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as found:
        found.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _SCHEMA)
        yield found


def begin(path: Path, files: Sequence[Path], how: str) -> dict[Path, int]:
    """Make a database ready, anew where the files or `how` they are judged have changed; how far each file was read."""
    wanted = json.dumps([how, *((str(file), stamp(file)) for file in files)])
    with database(path) as found:
        made_by = found.execute("SELECT stamp FROM run").fetchone()
    if made_by is not None and made_by[0] != wanted:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
    with database(path) as found:
        if made_by is None or made_by[0] != wanted:
            found.execute("INSERT INTO run VALUES (?)", (wanted,))
            found.executemany("INSERT INTO files VALUES (?, 0, 0, 0, 0)", [(str(file),) for file in files])
            found.commit()
        return {
            file: found.execute("SELECT offset FROM files WHERE name = ?", (str(file),)).fetchone()[0] for file in files
        }


def _pieces(steps: Iterator[Step], joined: Joined) -> Iterator[Piece]:
    piece: list[Step] = []
    size = 0
    for step in steps:
        raw, last = step.found, piece[-1].found if piece else None
        together = isinstance(raw, Raw) and isinstance(last, Raw) and joined(last, raw)
        if size > PIECE and not together:
            yield Piece(piece)
            piece, size = [], 0
        piece.append(step)
        if isinstance(raw, Raw):
            size += len(raw.value) if isinstance(raw.value, bytes) else sum(len(str(v)) for v in raw.value.values())
    if piece:
        yield Piece(piece)


def _keep(found: sqlite3.Connection, item: Item) -> Problem | None:
    said = None if item.rule else zlib.compress(json.dumps([item.said, item.credits]).encode(), 1)
    done = found.execute(
        "INSERT OR IGNORE INTO items VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (item.id, item.place, item.part, item.score, len(item.said), item.rule, item.found, *item.keys, said),
    )
    return None if done.rowcount else Problem(item.place, f"the id {item.id} stands twice; the first is used")


def stage(
    path: Path,
    file: Path,
    kind: Kind,
    pool: Executor | None,
    step: Callable[[int], None],
) -> None:
    """Read and judge a file into the database, from where it was left; `step` is told how far it is."""
    with database(path) as found:
        offset, line, done = found.execute(
            "SELECT offset, line, done FROM files WHERE name = ?", (str(file),)
        ).fetchone()
        if done:
            return
        pieces = _pieces(read(file, kind.wanted, kind.whole, offset, line), kind.joined)
        for piece, judged in in_order(pool, partial(_judge_piece, kind.judge, str(file)), pieces):
            problems = piece.problems + judged.problems
            problems += [problem for item in judged.items if (problem := _keep(found, item))]
            told = found.execute("SELECT count(*) FROM problems").fetchone()[0]
            found.executemany("INSERT INTO problems VALUES (?, ?)", problems[: max(0, MOST_PROBLEMS - told)])
            found.execute(
                "UPDATE files SET offset = ?, line = ?, bad = bad + ? WHERE name = ?",
                (*piece.steps[-1][1:], len(problems), str(file)),
            )
            found.commit()
            step(piece.steps[-1].offset)
        found.execute("UPDATE files SET done = 1 WHERE name = ?", (str(file),))
        found.commit()


def _judge_piece(judge: Judge, file: str, piece: Piece) -> Judged:
    return judge(file, piece.raws)


def mark_duplicates(path: Path) -> None:
    """Of rows whose prompts, or answers, say the same only the one with the highest score stays."""
    with database(path) as found:
        for rule in DUPLICATES:
            found.execute(_TWICE.format(key=rule.removeprefix("duplicate-")), {"rule": rule})
        found.commit()


def _best(path: Path, part: str, most: int) -> list[Candidate]:
    with database(path) as found:
        rows = found.execute(
            "SELECT id, score, packed FROM items WHERE part = ? AND rule IS NULL ORDER BY score DESC, number LIMIT ?",
            (part, most),
        ).fetchall()
    texts = [(identifier, score, json.loads(zlib.decompress(packed))[0]) for identifier, score, packed in rows]
    return [Candidate(identifier, part, score, said[0], tuple(said[:2])) for identifier, score, said in texts]


def parts(path: Path) -> list[Part]:
    """What is chosen from; all parts are of one group, which has no name."""
    with database(path) as found:
        sizes = found.execute("SELECT part, count(*) FROM items WHERE rule IS NULL GROUP BY part").fetchall()
    return [Part(part, "", size, partial(_best, path, part)) for part, size in sizes]


def kept(path: Path, identifier: str) -> Item:
    """One of those that the rules leave."""
    with database(path) as found:
        place, part, score, packed = found.execute(
            "SELECT place, part, score, packed FROM items WHERE id = ?", (identifier,)
        ).fetchone()
    said, credits = json.loads(zlib.decompress(packed))
    return Item(identifier, place, part, score, None, None, said=tuple(said), credits=tuple(credits))


def longest(path: Path, most: int, taken: Sequence[str]) -> list[str]:
    """The ids of those with most turns, more than two, that are not in `taken`."""
    with database(path) as found:
        rows = found.execute(
            "SELECT id FROM items WHERE rule IS NULL AND turns > 2 ORDER BY turns DESC, score DESC, number LIMIT ?",
            (most + len(taken),),
        ).fetchall()
    ids = [identifier for (identifier,) in rows if identifier not in set(taken)]
    return ids[:most]


def place_and_verdict(path: Path, identifier: str) -> tuple[str, str | None, str | None] | None:
    """Where an item stands, the first rule that drops it, and what that found; None where there is no such item."""
    with database(path) as found:
        row = found.execute("SELECT place, rule, found FROM items WHERE id = ?", (identifier,)).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def rows_at(file: Path, kind: Kind, place: int) -> list[Raw]:
    """The rows of the item that begins at a line, or row, of a file."""
    found: list[Raw] = []
    for step in read(file, kind.wanted, kind.whole, 0, 0):
        raw = step.found
        if not isinstance(raw, Raw) or raw.place < place:
            continue
        if found and not kind.joined(found[-1], raw):
            break
        found.append(raw)
    return found


def some_ids(path: Path) -> list[str]:
    """The first ids."""
    with database(path) as found:
        return [identifier for (identifier,) in found.execute("SELECT id FROM items ORDER BY number LIMIT 3")]


def funnels(path: Path, rules: Sequence[str]) -> dict[str, Funnel]:
    """By part, how many rows each rule dropped."""
    with database(path) as found:
        rows = found.execute("SELECT part, rule, count(*) FROM items GROUP BY part, rule ORDER BY part").fetchall()
    made = {}
    for part, of_part in groupby(rows, key=lambda row: row[0]):
        counts = {rule: count for _, rule, count in of_part}
        dropped = {rule: counts.get(rule, 0) for rule in rules}
        made[part] = Funnel(sum(counts.values()), dropped)
    return made


def problems_of(path: Path) -> tuple[list[str], int]:
    """The problems that are told, and how many there are in all."""
    with database(path) as found:
        told = found.execute("SELECT place || ': ' || reason FROM problems").fetchall()
        return [line for (line,) in told], found.execute("SELECT coalesce(sum(bad), 0) FROM files").fetchone()[0]
