"""What a site's dump holds of use, in a database on the disk: memory does not grow with the dump, and a run goes on where it ended."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from assistant.base_model import Say
from assistant.jsonl import Problem
from train.data.curate.cores import in_order
from train.data.curate.dump import Table, TableName, read_blocks
from train.data.curate.posts import Answer, Comment, Parsed, Question, parse, unpack_text
from train.data.curate.rows import BLOCK, Block, place

MOST_PROBLEMS = 20
"""Of a table that are told each by itself; all are counted."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tables (name TEXT PRIMARY KEY, stamp TEXT, offset INT, rows INT, answers INT, bad INT, done INT);
CREATE TABLE IF NOT EXISTS problems (name TEXT, place TEXT, reason TEXT);
CREATE TABLE IF NOT EXISTS questions (id INTEGER PRIMARY KEY, score INT, packed BLOB);
CREATE TABLE IF NOT EXISTS answers (id INTEGER PRIMARY KEY, question INT, score INT, offset INT, packed BLOB);
CREATE INDEX IF NOT EXISTS answers_of ON answers (question, score);
CREATE TABLE IF NOT EXISTS tops (answer INTEGER PRIMARY KEY, question INT, asker TEXT, answerer TEXT);
CREATE TABLE IF NOT EXISTS comments (id INTEGER PRIMARY KEY, post INT, author TEXT, packed BLOB);
CREATE INDEX IF NOT EXISTS comments_on ON comments (post, id);
CREATE TABLE IF NOT EXISTS judged (by TEXT);
CREATE TABLE IF NOT EXISTS verdicts (question INTEGER PRIMARY KEY, score INT, rule TEXT, found TEXT, packed BLOB);
CREATE INDEX IF NOT EXISTS verdicts_by ON verdicts (rule, score DESC, question);
"""


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """A site's database, made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as found:
        found.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _SCHEMA)
        yield found


def prepare(path: Path, tables: dict[TableName, Table], say: Say) -> None:
    """Begin a site anew where one of its files is another one than the database was made from."""
    with database(path) as found:
        stamps = dict(found.execute("SELECT name, stamp FROM tables").fetchall())
    if any(name in stamps and stamps[name] != table.stamp for name, table in tables.items()):
        say(f"{tables['Posts'].site}: its dump has changed; it is read anew")
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()


def blocks_of(table: Table, offset: int | None = None) -> int:
    """How many blocks a table has, or has up to a byte."""
    return -(-(table.size if offset is None else min(offset, table.size)) // BLOCK)


def blocks_read(path: Path, table: Table) -> int:
    """How many blocks of a table are in the database already."""
    with database(path) as found:
        row = found.execute("SELECT offset, done FROM tables WHERE name = ?", (table.name,)).fetchone()
    offset, done = row or (0, 0)
    return blocks_of(table) if done else blocks_of(table, offset)


def _keep(found: sqlite3.Connection, path: str, parsed: Parsed) -> list[Problem]:
    """Put what a block holds into the database; a problem for each id that is there already."""
    problems = []
    for offset, item in parsed.kept:
        marks = ", ".join("?" * len(item))
        kind = {Question: "questions", Answer: "answers", Comment: "comments"}[type(item)]
        done = found.execute(f"INSERT OR IGNORE INTO {kind} VALUES ({marks})", item)  # noqa: S608
        if not done.rowcount:
            problems.append(Problem(place(path, offset), f"the id {item.id} stands twice in {kind}; the first is used"))
    return problems


def _tell(found: sqlite3.Connection, name: str, problems: list[Problem]) -> None:
    told = found.execute("SELECT count(*) FROM problems WHERE name = ?", (name,)).fetchone()[0]
    kept = [(name, *problem) for problem in problems[: max(0, MOST_PROBLEMS - told)]]
    found.executemany("INSERT INTO problems VALUES (?, ?, ?)", kept)
    found.execute("UPDATE tables SET bad = bad + ? WHERE name = ?", (len(problems), name))


def _parsed(name: TableName, where: str, path: Path, item: Block | Problem) -> Parsed:
    return Parsed([], 0, 0, [item]) if isinstance(item, Problem) else parse(name, where, path, item)


def read(path: Path, table: Table, pool: Executor | None, at: Callable[[int], None]) -> None:
    """Read a table into the site's database, from where it was left; `at` is called with the byte it has come to."""
    with database(path) as found:
        found.execute("INSERT OR IGNORE INTO tables VALUES (?, ?, 0, 0, 0, 0, 0)", (table.name, table.stamp))
        found.commit()
        offset, done = found.execute("SELECT offset, done FROM tables WHERE name = ?", (table.name,)).fetchone()
        if done:
            return
        # Told with the block behind them, in one transaction: a run that is broken off tells each once.
        problems: list[Problem] = []
        work = partial(_parsed, table.name, table.where, path)
        for item, parsed in in_order(pool, work, read_blocks(table, offset)):
            problems += parsed.problems
            if isinstance(item, Problem):
                continue
            _tell(found, table.name, problems + _keep(found, table.where, parsed))
            problems.clear()
            found.execute(
                "UPDATE tables SET offset = ?, rows = rows + ?, answers = answers + ? WHERE name = ?",
                (item.next, parsed.rows, parsed.answers, table.name),
            )
            found.commit()
            at(item.next)
        if table.name == "Posts":
            problems.extend(_orphans(found, table.where))
            _find_tops(found)
        _tell(found, table.name, problems)
        found.execute("UPDATE tables SET done = 1 WHERE name = ?", (table.name,))
        found.commit()


def _orphans(found: sqlite3.Connection, path: str) -> Iterator[Problem]:
    lost = found.execute(
        "SELECT id, question, offset FROM answers WHERE question NOT IN (SELECT id FROM questions) ORDER BY id"
    )
    for answer, question, offset in lost:
        yield Problem(place(path, offset), f"answer {answer} is to question {question}, which is not in the dump")


def _find_tops(found: sqlite3.Connection) -> None:
    """The highest-scoring answer to each question that may be used; of equal ones the oldest."""
    best = found.execute(
        "SELECT a.id, a.question, q.packed, a.packed FROM answers a JOIN questions q ON q.id = a.question"
        " WHERE q.packed IS NOT NULL"
        " AND a.id = (SELECT id FROM answers WHERE question = a.question ORDER BY score DESC, id LIMIT 1)"
    )
    for answer, question, asked, answered in best:
        owners = unpack_text(asked).owner, unpack_text(answered).owner
        found.execute("INSERT INTO tops VALUES (?, ?, ?, ?)", (answer, question, *owners))


def problems_of(path: Path) -> tuple[list[str], int]:
    """The problems of a site's tables that are told, and how many there are in all."""
    with database(path) as found:
        told = found.execute("SELECT place || ': ' || reason FROM problems").fetchall()
        return [line for (line,) in told], found.execute("SELECT coalesce(sum(bad), 0) FROM tables").fetchone()[0]
