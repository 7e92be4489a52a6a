"""A table as training examples: a help desk, a wiki with titles and bodies, a dump of Reddit."""

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.dialogue import is_text
from assistant.jsonl import Line, Problem, parse_object, shown
from train.data.curate.files import Raw
from train.data.curate.items import Item, Judged
from train.data.curate.markdown import Clean, clean, clean_markdown
from train.data.curate.row_rules import Bounds, Finding, findings, first_fault
from train.data.words import normal

CHANGES = "selected from a table; made into Markdown; links, images and markup removed"
_TAG = re.compile(r"^(?:\[[A-Z]{2,4}\]\s*)+")
"""What posts of Reddit begin with, such as [WP]."""
_ARTICLE = re.compile(
    r"\A(T|t)his (?:wikiHow(?: article)?|article)(?= (?:will|shows?|teach|tells?|explains?|covers?|gives?|provides?)\b)"
)
LONGEST_ID = 200


@dataclass(frozen=True)
class Columns:
    """Which column says what."""

    prompt: str
    answer: str
    score: str | None = None
    id: str | None = None
    group: str | None = None
    author: str | None = None
    license: str | None = None
    url: str | None = None

    @property
    def wanted(self) -> frozenset[str]:
        return frozenset(name for name in vars(self).values() if name is not None)


@dataclass(frozen=True)
class Reading:
    """How the rows of a table are read and judged."""

    columns: Columns
    bounds: Bounds
    min_score: float | None = None
    html: bool = False

    def __call__(self, file: str, raws: list[Raw]) -> Judged:
        """What some rows are."""
        judged = Judged([], [])
        for raw in raws:
            place = f"{file}:{raw.place}"
            try:
                judged.items.append(self._item(file, raw, values_of(raw)))
            except ValueError as error:
                judged.problems.append(Problem(place, str(error)))
        return judged

    def _item(self, file: str, raw: Raw, values: dict[str, Any]) -> Item:
        columns, name = self.columns, Path(file).name
        texts = self._texts(values)
        score = 0.0 if columns.score is None else _number(values, columns.score)
        identifier = f"{name.partition('.')[0]}-{raw.place}" if columns.id is None else _label(values, columns.id)
        if not identifier or len(identifier) > LONGEST_ID:
            raise ValueError(f"its {columns.id} has {len(identifier)} characters; an id has 1 to {LONGEST_ID}")
        part = name if columns.group is None else _label(values, columns.group) or "(none)"
        item = Item(identifier, f"{name}:{raw.place}", part, score, None, None)
        below = self._below(score)
        if below is not None:
            return item._replace(rule="score", found=below)
        try:
            pair = self._pair(*texts)
        except ValueError as error:
            return item._replace(rule="answer-length", found=str(error))
        fault = first_fault(findings(*pair, self.bounds))
        if fault is not None:
            return item._replace(rule=fault[0], found=fault[1])
        return finished(item, list(pair), self._credits(values))

    def findings(self, raws: list[Raw]) -> Iterator[Finding]:
        """What each rule says of a row. Raises ValueError when it cannot be read."""
        values = values_of(raws[0])
        if self.columns.score is not None and self.min_score is not None:
            yield "score", self._below(_number(values, self.columns.score))
        texts = self._texts(values)
        try:
            pair = self._pair(*texts)
        except ValueError as error:
            yield "answer-length", str(error)
            return
        yield from findings(*pair, self.bounds)

    def _below(self, score: float) -> str | None:
        return f"{score:g}" if self.min_score is not None and score < self.min_score else None

    def _texts(self, values: dict[str, Any]) -> tuple[str, str]:
        return _text(values, self.columns.prompt), _text(values, self.columns.answer)

    def _pair(self, *texts: str) -> tuple[Clean, Clean]:
        """Prompt and answer without markup. Raises ValueError when one of them cannot be read."""
        prompt, answer = (clean(text) if self.html else clean_markdown(text) for text in texts)
        return (
            prompt._replace(text=_TAG.sub("", prompt.text)),
            answer._replace(text=_ARTICLE.sub(r"\1he following answer", answer.text)),
        )

    def _credits(self, values: dict[str, Any]) -> list[dict[str, str]]:
        named = {"url": self.columns.url, "author": self.columns.author, "license": self.columns.license}
        found = {name: _label(values, column) for name, column in named.items() if column is not None}
        return [{name: said for name, said in found.items() if said}] if any(found.values()) else []


def finished(item: Item, texts: list[Clean], credits: list[dict[str, str]]) -> Item:
    """An item that no rule drops, with its texts and credits."""
    said = tuple(text.text for text in texts)
    prompt, answer = (hashlib.sha256(normal(text).encode()).digest()[:16] for text in said[:2])
    return item._replace(keys=(prompt, answer), said=said, credits=tuple(credits))


def values_of(raw: Raw) -> dict[str, Any]:
    """A row's values by column. Raises ValueError with the reason."""
    if isinstance(raw.value, dict):
        return raw.value
    if not raw.value.startswith(b"{"):
        raise ValueError("is no JSON object; write one a line, with the columns as its keys")
    return parse_object(Line(raw.place, raw.value, len(raw.value)))


def _value(values: dict[str, Any], column: str) -> Any:
    if column not in values:
        raise ValueError(f"has no {column!r}")
    value = values[column]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return None if isinstance(value, float) and math.isnan(value) else value


def _text(values: dict[str, Any], column: str) -> str:
    value = _value(values, column)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"its {column} is a {type(value).__name__}; it must be text")
    if value and not is_text(value):
        raise ValueError(f"its {column} holds what is no text in UTF-8")
    return value or ""


def _label(values: dict[str, Any], column: str) -> str:
    value = _value(values, column)
    if isinstance(value, list | dict):
        raise ValueError(f"its {column} is a {type(value).__name__}; it must be text or a number")
    label = "" if value is None else str(value).strip()
    if not is_text(label):
        raise ValueError(f"its {column} holds what is no text in UTF-8")
    return label


def _number(values: dict[str, Any], column: str) -> float:
    value = _value(values, column)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"its {column} is {shown(value)}, which is no number")
    return number
