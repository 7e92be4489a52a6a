"""Small Stack Exchange dumps of our own making, and what curating made of raw texts."""

import json
import random
import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from tests.conftest import Result

_VOCABULARY = """
water light stone green paper round early seven market river copper gentle window farmer summer bottle colour
heavy garden thread silver simple carpet ladder metal kettle orange pocket basket button yellow forest candle
engine
"""
WORDS = _VOCABULARY.split()
TITLES = (
    "Why does bread dough need to rest?",
    "How do tides depend on the moon?",
    "What keeps a bicycle upright at speed?",
    "Why are old violins so expensive?",
    "How is glass made from sand?",
    "When should tomato seeds be sown indoors?",
    "Which metals can be drawn to a magnet?",
    "How can a small business write a good invoice?",
)


def prose(seed: object, sentences: int = 30) -> str:
    """Sentences of random words, no two texts alike; thirty have about 1,500 characters."""
    random_ = random.Random(str(seed))
    return " ".join(" ".join(random_.choices(WORDS, k=7)).capitalize() + "." for _ in range(sentences))


def row(**values: Any) -> str:
    return "  <row " + " ".join(f"{name}={quoteattr(str(value))}" for name, value in values.items()) + " />"


def question(number: int, title: str | None = None, **more: Any) -> str:
    values = {"Id": number, "PostTypeId": 1, "CreationDate": "2018-01-01T00:00:00.000", "Score": 20, "OwnerUserId": 7}
    asked = {"Body": "<p>Short and without a mark.</p>", "Title": title or TITLES[number // 10 - 1]}
    return row(**values | asked | more)


def answer(number: int, body: str | None = None, **more: Any) -> str:
    values = {
        "Id": number,
        "PostTypeId": 2,
        "ParentId": number - 1,
        "CreationDate": "2018-06-01T00:00:00.000",
        "Score": 30,
    }
    return row(**values | {"OwnerUserId": 8, "Body": f"<p>{prose(number)}</p>" if body is None else body} | more)


def table(name: str, *rows: str) -> str:
    return f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<{name}>\n' + "\n".join(rows) + f"\n</{name}>\n"


def site(folder: Path, *rows: str, comments: tuple[str, ...] = (), users: tuple[str, ...] = ()) -> Path:
    """A site's folder with the given rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Posts.xml").write_text(table("posts", *rows), encoding="utf-8")
    if comments:
        (folder / "Comments.xml").write_text(table("comments", *comments), encoding="utf-8")
    if users:
        (folder / "Users.xml").write_text(table("users", *users), encoding="utf-8")
    return folder


def exchanges(count: int = len(TITLES)) -> list[str]:
    """So many good questions, 10, 20, ..., each with its good answer."""
    return [post for number in range(10, 10 * count + 10, 10) for post in (question(number), answer(number + 1))]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def dropped(result: Result) -> dict[str, int]:
    """What the funnel says each rule dropped."""
    found = re.findall(
        r"^ ([a-z-]+) .*?([\d,]+) +([\d,]+) +([\d,]+) *$", result.out.partition("\n part ")[0], re.MULTILINE
    )
    return {name: int(count) for name, _, count, _ in found if int(count)}
