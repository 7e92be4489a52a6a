"""Every question that has a good answer, judged by every rule; what each rule dropped is kept with its reason."""

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from train.data.curate.choose import Candidate
from train.data.curate.cores import in_order
from train.data.curate.markdown import Clean, clean
from train.data.curate.posts import Text, pack, unpack_text
from train.data.curate.report import Funnel
from train.data.curate.rules import RULES, Exchange, stands_alone
from train.data.curate.staging import database

BATCH = 100


class Pair(NamedTuple):
    """A question and its top answer as they are in the database."""

    question: int
    score: int
    asked: bytes
    answered: bytes


class Verdict(NamedTuple):
    """What the rules say of a question and its top answer."""

    question: int
    score: int
    rule: str | None
    """The first rule that drops it."""
    found: str | None
    """What that rule found."""
    packed: bytes | None
    """Of one that stays: title, description (empty where it cannot be a prompt), answer."""


def exchange(asked: Text, answered: Text) -> Exchange:
    """A question and its answer without markup. Raises ValueError when one of them cannot be read."""
    try:
        description = clean(asked.body)
    except ValueError:
        description = Clean("", (), ())  # Then the title is the prompt.
    return Exchange(" ".join(asked.title.split()), description, clean(answered.body))


def judge(pairs: list[Pair]) -> list[Verdict]:
    """What the rules say of some questions; runs in a process of its own."""
    return [_judge(pair) for pair in pairs]


def _judge(pair: Pair) -> Verdict:
    try:
        found = exchange(unpack_text(pair.asked), unpack_text(pair.answered))
    except ValueError as error:
        return Verdict(pair.question, pair.score, "answer-length", str(error), None)
    for rule in RULES:
        what = rule.found(found)
        if what is not None:
            return Verdict(pair.question, pair.score, rule.name, what, None)
    description = found.description.text if stands_alone(found.description) else ""
    return Verdict(pair.question, pair.score, None, None, pack((found.title, description, found.answer.text)))


def best_of(path: Path, site: str, seed: int, most: int) -> list[Candidate]:
    """The highest-scoring questions of a site that the rules leave; the prompt is title or description at random."""
    with database(path) as found:
        rows = found.execute(
            "SELECT question, score, packed FROM verdicts WHERE rule IS NULL ORDER BY score DESC, question LIMIT ?",
            (most,),
        ).fetchall()
    made = []
    for question, score, packed in rows:
        title, description, answer = json.loads(zlib.decompress(packed))
        # Of the id and the seed alone, so that a candidate's prompt does not hang on which others there are.
        heads = hashlib.sha256(f"{seed} {site} {question}".encode()).digest()[0] % 2
        prompt = description if description and heads else title
        made.append(Candidate(f"{site}-{question}", site, score, title, (prompt, answer)))
    return made


def code_stamp() -> str:
    """Changes when the rules do."""
    texts = [file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"".join([*texts, version("markdownify").encode()])).hexdigest()


def _pairs(found: sqlite3.Connection, after: int) -> Iterator[list[Pair]]:
    while True:
        batch = found.execute(
            "SELECT t.question, q.score, q.packed, a.packed FROM tops t JOIN questions q ON q.id = t.question"
            " JOIN answers a ON a.id = t.answer WHERE t.question > ? ORDER BY t.question LIMIT ?",
            (after, BATCH),
        ).fetchall()
        if not batch:
            return
        yield [Pair(*row) for row in batch]
        after = batch[-1][0]


def to_judge(path: Path) -> tuple[int, int]:
    """How many batches of a site are judged already, and how many there are; when the rules have changed, none is."""
    with database(path) as found:
        stamp = (code_stamp(),)
        if found.execute("SELECT by FROM judged").fetchall() != [stamp]:
            found.execute("DELETE FROM verdicts")
            found.execute("DELETE FROM judged")
            found.execute("INSERT INTO judged VALUES (?)", stamp)
            found.commit()
        counts = [found.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("verdicts", "tops")]  # noqa: S608
        return counts[0] // BATCH, -(-counts[1] // BATCH)


def judge_site(path: Path, pool: Executor | None, step: Callable[[], None]) -> None:
    """Judge what a site's database holds, from where it was left."""
    with database(path) as found:
        found.execute("CREATE INDEX IF NOT EXISTS tops_of ON tops (question)")
        after = found.execute("SELECT coalesce(max(question), -1) FROM verdicts").fetchone()[0]
        for _, verdicts in in_order(pool, judge, _pairs(found, after)):
            found.executemany("INSERT INTO verdicts VALUES (?, ?, ?, ?, ?)", verdicts)
            found.commit()
            step()


def funnel(path: Path) -> Funnel:
    """How many questions of a site each rule dropped."""

    def number(query: str) -> int:
        return int(found.execute(query).fetchone()[0])

    with database(path) as found:
        questions = number("SELECT count(*) FROM questions")
        scored = number("SELECT count(packed) FROM questions")
        answered = number("SELECT count(*) FROM tops")
        by_rule = dict(
            found.execute("SELECT rule, count(*) FROM verdicts WHERE rule IS NOT NULL GROUP BY rule").fetchall()
        )
    dropped = {"question-score": questions - scored, "answer-score": scored - answered}
    return Funnel(questions, dropped | {rule.name: by_rule.get(rule.name, 0) for rule in RULES})
