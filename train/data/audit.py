"""`thousand data audit`: everything a program can find wrong with a data set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from assistant.base_model import Say
from assistant.dialogue import HELD_OUT
from assistant.jsonl import Problem
from assistant.settings import bundled
from train.data import form, near, wording
from train.data.corpus import Entry, files_of, read_corpus
from train.data.finding import Finding, Rule

RULES = (
    Rule("schema", "error", "lines that are no dialogue, ids used twice"),
    *form.RULES,
    *wording.RULES,
    *near.RULES,
)
ERRORS = frozenset(rule.name for rule in RULES if rule.level == "error")
"""The rules whose findings must be mended."""


@dataclass(frozen=True)
class Report:
    """What an audit found, in the order of files and lines."""

    findings: tuple[Finding, ...]
    lines: int
    """Lines that were looked at, bad ones left out."""
    files: int

    @property
    def errors(self) -> int:
        """How many findings must be mended."""
        return sum(finding.rule in ERRORS for finding in self.findings)


def _held_out_that_come_along(files: Sequence[Path]) -> list[Entry]:
    """The held-out sets to look for contamination with, where the given files have none of their own."""
    if any(path.stem in HELD_OUT for path in files):
        return []
    return read_corpus(sorted(p for p in bundled("dialogues").glob("*.jsonl") if p.stem in HELD_OUT), [])


def audit(sources: Sequence[Path], say: Say) -> Report:
    """Look at every line of the files and folders in `sources` with every rule; held-out sets are looked at too.

    Where no held-out set is among the sources, those that come along are used to look for contamination.
    Raises BadData when a source is missing or an empty folder.
    """
    files = files_of(sources)
    problems: list[Problem] = []
    entries = read_corpus(files, problems)
    others = _held_out_that_come_along(files)
    findings = [Finding(problem.where, "schema", problem.reason) for problem in problems]
    if entries:
        say(f"{len(entries)} lines in {len(files)} files")
        findings.extend(form.form(entries))
        findings.extend(wording.wording(entries))
        findings.extend(near.near(entries, others, say))
    place = {str(path): number for number, path in enumerate(files)}

    def order(finding: Finding) -> tuple[int, int]:
        file, _, number = finding.where.rpartition(":")
        return (place[file], int(number)) if file in place else (place[finding.where], 0)

    return Report(tuple(sorted(findings, key=order)), len(entries), len(files))


def summary(report: Report) -> Table:
    """Every rule with the number of its findings."""
    counts = Counter(finding.rule for finding in report.findings)
    table = Table("rule", "looks for", "level", "found", box=None)
    table.columns[-1].justify = "right"
    for rule in RULES:
        style = None if not counts[rule.name] else "red" if rule.level == "error" else "yellow"
        table.add_row(rule.name, rule.looks_for, rule.level, str(counts[rule.name]), style=style)
    return table
