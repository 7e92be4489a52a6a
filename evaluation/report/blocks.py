"""What a report is made of, whatever it is written in."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """A table."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG."""

    name: str
    """Of its file, where it is one."""
    alt: str
    png: bytes


@dataclass(frozen=True)
class Said:
    """A conversation: who spoke, and what. It is a model's text or a user's, never markup."""

    title: str
    turns: Sequence[tuple[str, str]]
    good: bool


Block = Words | Items | Grid | Picture | Said


@dataclass(frozen=True)
class Section:
    """One kind of result."""

    title: str
    blocks: Sequence[Block] = ()
    missing: Sequence[str] = field(default=())
    """What could have been measured and was not, and by which command it is; said here and at the end."""


@dataclass(frozen=True)
class Report:
    """The whole page."""

    title: str
    made: str
    sections: Sequence[Section]
