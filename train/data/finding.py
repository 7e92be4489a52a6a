"""What the audit says of one line."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Rule:
    """One thing the audit looks for. An error must be mended; a warning is for a person to look at."""

    name: str
    level: Level
    looks_for: str


@dataclass(frozen=True)
class Finding:
    """One fault of one line."""

    where: str
    """`file:line`, or the file where a whole file is at fault."""
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.what}"
