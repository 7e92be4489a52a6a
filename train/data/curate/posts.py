"""What a row of a table says: the posts, comments and names that are kept for later, and nothing else."""

import json
import re
import sqlite3
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from assistant.jsonl import Problem, shown
from train.data.curate.rows import Block, Row, place, rows
from train.data.curate.rules import ANSWER_SCORE, QUESTION_SCORE

_NUMBER = re.compile(r"-?[0-9]{1,18}")
"""What the database can hold."""


class Text(NamedTuple):
    """A post's or comment's text and what a licence asks to be said of it."""

    title: str
    body: str
    """HTML of a post, a comment's own text."""
    owner: str
    """The number of its author, or nothing when he has left."""
    name: str
    """What the table calls its author, or nothing."""
    date: str
    license: str
    """As the table says, or nothing."""


def pack(values: tuple[Any, ...]) -> bytes:
    return zlib.compress(json.dumps(values).encode(), 1)


def unpack_text(packed: bytes) -> Text:
    return Text(*json.loads(zlib.decompress(packed)))


class Question(NamedTuple):
    id: int
    score: int
    packed: bytes | None
    """None where its score is too low for it to be used."""


class Answer(NamedTuple):
    id: int
    question: int
    score: int
    offset: int
    packed: bytes


class Comment(NamedTuple):
    id: int
    post: int
    author: str
    packed: bytes


class Parsed(NamedTuple):
    """What a block holds."""

    kept: list[tuple[int, Question | Answer | Comment]]
    """Each with the byte its row begins at."""
    rows: int
    answers: int
    problems: list[Problem]


def _number(values: dict[str, str], name: str) -> int:
    if name not in values:
        raise ValueError(f"has no {name}")
    if not _NUMBER.fullmatch(values[name]):
        raise ValueError(f"its {name} is {shown(values[name])}, which is no number")
    return int(values[name])


def _text(values: dict[str, str], body: str) -> Text:
    get = values.get
    return Text(
        get("Title", ""), values[body], get("OwnerUserId", get("UserId", "")), get("OwnerDisplayName", get("UserDisplayName", "")),
        get("CreationDate", ""), get("ContentLicense", ""),
    )  # fmt: skip


def _post(row: Row) -> Question | Answer | None:
    """A question, or an answer that scores enough to be used; None for anything else. Raises ValueError with the reason."""
    values = row.values
    kind, number = values.get("PostTypeId"), _number(values, "Id")
    if kind not in ("1", "2"):
        return None
    score = _number(values, "Score")
    if not values.get("Body", "").strip():
        raise ValueError(f"post {number} has no Body")
    if kind == "1":
        if not values.get("Title", "").strip():
            raise ValueError(f"question {number} has no Title")
        return Question(number, score, pack(_text(values, "Body")) if score >= QUESTION_SCORE else None)
    question = _number(values, "ParentId")
    return Answer(number, question, score, row.offset, pack(_text(values, "Body"))) if score >= ANSWER_SCORE else None


@lru_cache(maxsize=1)
def _reading(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True)


def _comment(row: Row, database: Path) -> Comment | None:
    """A comment by the asker or the answerer on a top answer. Raises ValueError with the reason."""
    values = row.values
    number, post = _number(values, "Id"), _number(values, "PostId")
    if not values.get("Text", "").strip():
        raise ValueError(f"comment {number} has no Text")
    author = values.get("UserId", "")
    found = _reading(database).execute("SELECT asker, answerer FROM tops WHERE answer = ?", (post,)).fetchone()
    return Comment(number, post, author, pack(_text(values, "Text"))) if found and author and author in found else None


def parse(name: str, path: str, database: Path, block: Block) -> Parsed:
    """What a block of the table `name` (Posts or Comments) holds; runs in a process of its own."""
    problems: list[Problem] = []
    kept: list[tuple[int, Question | Answer | Comment]] = []
    count = answers = 0
    for row in rows(block, path, problems):
        count += 1
        answers += row.values.get("PostTypeId") == "2"
        try:
            found = _post(row) if name == "Posts" else _comment(row, database)
        except ValueError as error:
            problems.append(Problem(place(path, row.offset), str(error)))
            continue
        if found is not None:
            kept.append((row.offset, found))
    return Parsed(kept, count, answers, problems)
