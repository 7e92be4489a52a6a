"""What came of raw texts: how many entered and left each rule, what each part gave, what could not be read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table as Printed
from rich.text import Text

from assistant.console import visible
from assistant.errors import ThousandError
from train.data.curate.choose import Choice

CHAINS = "to-edit/chains.jsonl"


@dataclass(frozen=True)
class Funnel:
    """How many questions or rows of one part, or of several, come to each rule, and how many it drops."""

    come: int
    dropped: dict[str, int]
    """By rule, in the order of the rules."""

    @property
    def left(self) -> int:
        return self.come - sum(self.dropped.values())

    def __add__(self, other: "Funnel") -> "Funnel":
        names = {**self.dropped, **other.dropped}
        both = {name: self.dropped.get(name, 0) + other.dropped.get(name, 0) for name in names}
        return Funnel(self.come + other.come, both)


@dataclass(frozen=True)
class Curated:
    """What came of raw texts."""

    funnels: dict[str, Funnel]
    """By part."""
    groups: dict[str, str]
    """By part."""
    drops: Mapping[str, str]
    """What each rule drops, in words."""
    choice: Choice
    selected: Path
    """Where the chosen ones are."""
    chains: int
    problems: list[str]
    """Those that are told."""
    skipped: int
    """Rows and tables that could not be used, all of them."""


def refuse_existing(folder: Path, *names: str) -> None:
    """Raises ThousandError when one of the files is there already."""
    for name in names:
        if (folder / name).exists():
            raise ThousandError(f"{folder / name} exists already; give another folder, or remove it first.")


def _right(table: Printed, first: int) -> Printed:
    for column in table.columns[first:]:
        column.justify = "right"
    return table


def funnel_table(curated: Curated) -> Printed:
    """How many come to each rule, how many it drops, and how many it leaves."""
    total = sum(curated.funnels.values(), Funnel(0, {}))
    near = Counter(rule for rule, _ in curated.choice.reasons.values())
    drops = {
        **curated.drops,
        "lower-scores": "what is not among the highest scores of its part",
        "selection": "what is nearer to others, over the number wanted",
    }
    steps = [*total.dropped.items(), ("lower-scores", total.left - curated.choice.looked_at)]
    steps += [(rule, near[rule]) for rule in sorted(near) if rule != "selection"]
    table = _right(Printed("rule", "drops", "come", "dropped", "left", box=None), 2)
    left = total.come
    for rule, dropped in [*steps, ("selection", near["selection"])]:
        table.add_row(rule, drops.get(rule, "as in the audit"), f"{left:,}", f"{dropped:,}", f"{left - dropped:,}")
        left -= dropped
    return table


def parts_table(curated: Curated) -> Printed:
    """What each part gave."""
    table = _right(Printed("part", "group", "come", "left by the rules", "selected", box=None), 2)
    selected = Counter(candidate.part for candidate in curated.choice.chosen)
    for part, found in curated.funnels.items():
        table.add_row(
            Text(visible(part)), curated.groups[part], f"{found.come:,}", f"{found.left:,}", f"{selected[part]:,}"
        )
    return table
