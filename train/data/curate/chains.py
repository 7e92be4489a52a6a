"""Dialogues between asker and answerer below a top answer: candidates for chains, which a person edits as the paper's authors did."""

import heapq
import re
import sqlite3
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from assistant.dialogue import Dialogue, Message
from train.data.curate.credit import provenance, work
from train.data.curate.judge import exchange
from train.data.curate.posts import Text, unpack_text
from train.data.curate.rules import LONGEST, title
from train.data.curate.staging import database

SHORTEST_TURN = 20
"""Characters of a comment that says something."""
_ADDRESS = re.compile(r"(?:^|(?<=\s))@[\w.-]+[,:]?\s*")
_LINK = re.compile(r"\[([^\]]+)\]\((?:https?:)?//[^)\s]+[^)]*\)|https?://\S+")


def _said(text: Text) -> str:
    return " ".join(_LINK.sub(r"\1", _ADDRESS.sub("", text.body)).split())


def _turns(comments: list[tuple[str, bytes]], asker: str) -> list[str]:
    """What both say in turn, the asker first and the answerer last; nothing where one of them says too little."""
    turns: list[str] = []
    for is_asker, group in groupby(comments, key=lambda comment: comment[0] == asker):
        said = " ".join(_said(unpack_text(packed)) for _, packed in group)
        if turns or is_asker:
            turns.append(said)
    turns = turns[: len(turns) // 2 * 2]
    return turns if all(len(turn) >= SHORTEST_TURN for turn in turns) else []


def _chains(found: sqlite3.Connection) -> Iterator[tuple[int, int, list[str]]]:
    """Question, answer, and the turns below it."""
    rows = found.execute(
        "SELECT t.question, t.answer, t.asker, c.author, c.packed FROM comments c JOIN tops t ON t.answer = c.post"
        " WHERE t.asker != t.answerer ORDER BY c.post, c.id"
    )
    for (question, answer, asker), group in groupby(rows, key=lambda row: row[:3]):
        turns = _turns([(author, packed) for *_, author, packed in group], asker)
        if turns:
            yield question, answer, turns


def find_chains(site: str, path: Path, most: int) -> list[Dialogue]:
    """The longest chains of a site, at most `most`: title, top answer, and the comments of the two on it."""
    with database(path) as found:
        longest = heapq.nlargest(most, _chains(found), key=lambda chain: (len(chain[2]), -chain[0]))
        made = [_dialogue(site, found, *chain) for chain in longest]
    return [dialogue for dialogue in made if dialogue is not None]


def _dialogue(site: str, found: sqlite3.Connection, question: int, answer: int, turns: list[str]) -> Dialogue | None:
    texts = [
        unpack_text(found.execute(f"SELECT packed FROM {kind} WHERE id = ?", (number,)).fetchone()[0])  # noqa: S608
        for kind, number in (("questions", question), ("answers", answer))
    ]
    try:
        pair = exchange(*texts)
    except ValueError:
        return None
    if title(pair) or not pair.answer.text or len(pair.answer.text) > LONGEST:
        return None
    said = [pair.title, pair.answer.text, *turns]
    roles = ("user", "assistant")
    where, licence = provenance(
        [work(site, "q", question, texts[0], {}), work(site, "a", answer, texts[1], {})],
        "made into Markdown; links, images and markup removed; comments joined into turns",
    )
    return Dialogue(
        id=f"{site}-{question}-chain",
        source=f"stackexchange/{site}",
        license=licence,
        messages=tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(said)),
        provenance=where,
    )
