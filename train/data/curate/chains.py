"""Dialogues between asker and answerer below a top answer: candidates for chains, which a person edits as the paper's authors did."""

import heapq
import re
import sqlite3
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from assistant.dialogue import Dialogue, Message, Role
from train.data.curate.credit import provenance, work
from train.data.curate.judge import exchange
from train.data.curate.posts import Text, unpack_text
from train.data.curate.rules import LONGEST, title
from train.data.curate.staging import database

SHORTEST_TURN = 20
"""Characters of a comment that says something."""
_ADDRESS = re.compile(r"(?:^|(?<=\s))@[\w.-]+[,:]?\s*")
_LINK = re.compile(r"\[([^\]]+)\]\((?:https?:)?//[^)\s]+[^)]*\)|https?://\S+")


class _Comment(NamedTuple):
    number: int
    text: Text


class _Turn(NamedTuple):
    said: str
    comments: tuple[_Comment, ...]


@dataclass(frozen=True)
class Chain:
    """A question, its top answer, and what both said below it in turn."""

    site: str
    question: int
    answer: int
    texts: tuple[Text, Text]
    said: tuple[str, ...]
    comments: tuple[_Comment, ...]

    @property
    def owners(self) -> set[str]:
        """The numbers of those who wrote it."""
        return {text.owner for text in self.texts}

    def dialogue(self, known: dict[str, str]) -> Dialogue:
        """With the credit of every post and comment; `known` are their authors' names."""
        posts = [("q", self.question, self.texts[0]), ("a", self.answer, self.texts[1])]
        written = posts + [("posts/comments", comment.number, comment.text) for comment in self.comments]
        where, licence = provenance(
            [work(self.site, kind, number, text, known) for kind, number, text in written],
            "made into Markdown; links, images and markup removed; comments joined into turns",
        )
        roles: tuple[Role, Role] = ("user", "assistant")
        return Dialogue(
            id=f"{self.site}-{self.question}-chain",
            source=f"stackexchange/{self.site}",
            license=licence,
            messages=tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(self.said)),
            provenance=where,
        )


def _said(text: Text) -> str:
    return " ".join(_LINK.sub(r"\1", _ADDRESS.sub("", text.body)).split())


def _turns(comments: list[_Comment], asker: str) -> list[_Turn]:
    """What both say in turn, the asker first and the answerer last; nothing where one of them says too little."""
    turns: list[_Turn] = []
    for is_asker, group in groupby(comments, key=lambda comment: comment.text.owner == asker):
        if turns or is_asker:
            of_one = tuple(group)
            turns.append(_Turn(" ".join(_said(comment.text) for comment in of_one), of_one))
    turns = turns[: len(turns) // 2 * 2]
    return turns if all(len(turn.said) >= SHORTEST_TURN for turn in turns) else []


def _chains(found: sqlite3.Connection) -> Iterator[tuple[int, int, list[_Turn]]]:
    """Question, answer, and the turns below it."""
    rows = found.execute(
        "SELECT t.question, t.answer, t.asker, c.id, c.packed FROM comments c JOIN tops t ON t.answer = c.post"
        " WHERE t.asker != t.answerer ORDER BY c.post, c.id"
    )
    for (question, answer, asker), group in groupby(rows, key=lambda row: row[:3]):
        turns = _turns([_Comment(number, unpack_text(packed)) for *_, number, packed in group], asker)
        if turns:
            yield question, answer, turns


def find_chains(site: str, path: Path, most: int, taken: Container[str]) -> list[Chain]:
    """The longest chains of a site, at most `most`: title, top answer, and the comments of the two on it.

    None of a question whose `SITE-NUMBER` is in `taken`: it is an example already.
    """
    with database(path) as found:
        free = (chain for chain in _chains(found) if f"{site}-{chain[0]}" not in taken)
        longest = heapq.nlargest(most, free, key=lambda chain: (len(chain[2]), -chain[0]))
        made = [_chain(site, found, *chain) for chain in longest]
    return [chain for chain in made if chain is not None]


def _chain(site: str, found: sqlite3.Connection, question: int, answer: int, turns: list[_Turn]) -> Chain | None:
    asked, answered = (
        unpack_text(found.execute(f"SELECT packed FROM {kind} WHERE id = ?", (number,)).fetchone()[0])  # noqa: S608
        for kind, number in (("questions", question), ("answers", answer))
    )
    try:
        pair = exchange(asked, answered)
    except ValueError:
        return None
    if title(pair) or not pair.answer.text or len(pair.answer.text) > LONGEST:
        return None
    said = (pair.title, pair.answer.text, *(turn.said for turn in turns))
    return Chain(site, question, answer, (asked, answered), said, tuple(c for turn in turns for c in turn.comments))
