"""Checks that a program can decide of an answer: the checkable part of "was it what they asked for?"."""

import json
import re
from functools import cache

import regex
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

REGEX_SECONDS = 1.0
"""A pattern that has not matched by then is taken not to match: some patterns would try for hours on some answers."""

_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)


_NO_SPACES = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
"""Scripts written without spaces between words."""


@cache
def _phrase(phrase: str) -> re.Pattern[str]:
    """The phrase at word edges, whatever its case; an edge that is no letter or digit needs none."""
    left = r"(?<!\w)" if phrase[0].isalnum() and not _NO_SPACES.match(phrase[0]) else ""
    right = r"(?!\w)" if phrase[-1].isalnum() and not _NO_SPACES.match(phrase[-1]) else ""
    return re.compile(left + re.escape(phrase) + right, re.IGNORECASE)


def _not_json(name: str) -> None:
    raise ValueError(name)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return False
    return True


def _matches(pattern: str, answer: str) -> bool:
    try:
        return regex.search(pattern, answer, timeout=REGEX_SECONDS) is not None
    except TimeoutError:
        return False


class Checks(BaseModel):
    """What an answer must satisfy. Every field that is set must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    contains_any: list[str] | None = Field(None, min_length=1)
    contains_all: list[str] | None = Field(None, min_length=1)
    not_contains: list[str] | None = Field(None, min_length=1)
    max_words: int | None = Field(None, ge=1)
    min_words: int | None = Field(None, ge=1)
    regex: str | list[str] | None = None
    is_json: bool | None = None
    ends_with: str | None = Field(None, min_length=1)
    n_bullets: int | None = Field(None, ge=0)

    @field_validator("contains_any", "contains_all", "not_contains")
    @classmethod
    def _no_empty_phrase(cls, phrases: list[str] | None) -> list[str] | None:
        if phrases and not all(phrases):
            raise ValueError("an empty phrase is in every answer")
        return phrases

    @field_validator("ends_with")
    @classmethod
    def _no_white_space_at_the_end(cls, end: str | None) -> str | None:
        if end is not None and end != end.rstrip():
            raise ValueError("ends in white space, which is not looked at")
        return end

    @model_validator(mode="after")
    def _says_something(self) -> "Checks":
        if not self.kinds:
            raise ValueError("holds no check")
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise ValueError("min_words is above max_words")
        return self

    @field_validator("regex")
    @classmethod
    def _compiles(cls, patterns: str | list[str] | None) -> str | list[str] | None:
        if patterns is not None and not patterns:
            raise ValueError("is empty")
        for pattern in [patterns] if isinstance(patterns, str) else patterns or []:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(f"not a regular expression: {pattern!r}: {error}") from None
        return patterns

    @property
    def kinds(self) -> list[str]:
        """The names of the checks that are set."""
        return list(self.model_dump(exclude_none=True))

    def failed(self, answer: str) -> list[str]:
        """The names of the checks that `answer` does not satisfy; empty when all hold."""
        words = len(answer.split())
        patterns = [self.regex] if isinstance(self.regex, str) else self.regex or []

        def has(phrase: str) -> bool:
            return _phrase(phrase).search(answer) is not None

        holds = {
            "contains_any": self.contains_any is None or any(map(has, self.contains_any)),
            "contains_all": self.contains_all is None or all(map(has, self.contains_all)),
            "not_contains": self.not_contains is None or not any(map(has, self.not_contains)),
            "max_words": self.max_words is None or words <= self.max_words,
            "min_words": self.min_words is None or words >= self.min_words,
            "regex": all(_matches(pattern, answer) for pattern in patterns),
            "is_json": self.is_json is None or _is_json(answer) == self.is_json,
            "ends_with": self.ends_with is None or answer.strip().endswith(self.ends_with),
            "n_bullets": self.n_bullets is None or len(_BULLET.findall(answer)) == self.n_bullets,
        }
        return [name for name, held in holds.items() if not held]
