"""Every question that has a good answer, judged by every rule; what each rule dropped is kept with its reason."""

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from train.data.curate import markdown, phrases, rules
from train.data.curate.cores import in_order
from train.data.curate.markdown import Clean, clean
from train.data.curate.posts import Text, pack, unpack_text
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


@dataclass(frozen=True)
class Funnel:
    """How many questions of one site or of several come to each rule, and how many it drops."""

    questions: int
    dropped: dict[str, int]
    """By rule, in the order of the rules."""

    @property
    def left(self) -> int:
        return self.questions - sum(self.dropped.values())

    def __add__(self, other: "Funnel") -> "Funnel":
        names = {**self.dropped, **other.dropped}
        both = {name: self.dropped.get(name, 0) + other.dropped.get(name, 0) for name in names}
        return Funnel(self.questions + other.questions, both)


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


def kept_texts(packed: bytes) -> tuple[str, str, str]:
    """Title, description and answer of a verdict."""
    title, description, answer = json.loads(zlib.decompress(packed))
    return title, description, answer


def _rules_stamp() -> str:
    """Changes when the rules do."""
    texts = [Path(str(module.__file__)).read_bytes() for module in (markdown, phrases, rules)]
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


def to_judge(path: Path) -> int:
    """How many batches of a site there are, those done already included."""
    with database(path) as found:
        return -(-int(found.execute("SELECT count(*) FROM tops").fetchone()[0]) // BATCH)


def judge_site(path: Path, pool: Executor | None, step: Callable[[], None]) -> None:
    """Judge what a site's database holds, from where it was left; everything anew when the rules have changed."""
    with database(path) as found:
        found.execute("CREATE INDEX IF NOT EXISTS tops_of ON tops (question)")
        stamp = (_rules_stamp(),)
        if found.execute("SELECT by FROM judged").fetchall() != [stamp]:
            found.execute("DELETE FROM verdicts")
            found.execute("DELETE FROM judged")
            found.execute("INSERT INTO judged VALUES (?)", stamp)
            found.commit()
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
