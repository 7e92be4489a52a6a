"""What every dialogue is looked at with before it may be learnt from: the audit's rules, what is near it in the training set,
what it gives away of the held-out sets, and personal data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from assistant.base_model import Say
from assistant.dialogue import Dialogue
from assistant.embedding import embed
from assistant.jsonl import Problem
from assistant.settings import bundled
from train.data import form, near, wording
from train.data.audit import ERRORS
from train.data.corpus import Entry, entry, files_of, read_corpus
from train.data.finding import Finding
from train.data.personal import Personal, personal
from train.data.words import mostly_latin

NEIGHBOURS = 3


@dataclass(frozen=True)
class Neighbour:
    """A line of the training set whose prompts are near in meaning."""

    where: str
    similarity: float
    """Cosine of the sentence embeddings; from 0.8 on prompts mean nearly the same."""
    prompt: str


@dataclass(frozen=True)
class Look:
    """What is seen of one dialogue."""

    findings: tuple[Finding, ...]
    """The audit's, but for contamination."""
    contamination: tuple[Finding, ...]
    """What a held-out line has too. Learnt from, it would make the scores of that line worthless."""
    personal: tuple[Personal, ...]
    neighbours: tuple[Neighbour, ...]
    """The nearest first. Prompts in other scripts than Latin have none: their meaning is not known."""

    @property
    def clean(self) -> bool:
        """Whether nothing was found that a person should look at."""
        return not (self.findings or self.contamination or self.personal)

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that must be mended."""
        return tuple(finding for finding in (*self.findings, *self.contamination) if finding.rule in ERRORS)


def _named_shortly(found: Entry) -> Entry:
    """The entry with its file's name alone as its place, which is what people know it by."""
    return replace(found, where=Path(found.where).name)


class Gate:
    """The sets that a dialogue is compared with, read once."""

    def __init__(self, kept: Path, say: Say) -> None:
        """`kept` is the file of dialogues that were kept before; it need not be there. Lines of it that cannot be read are left
        out: training names them."""
        files = files_of([bundled("dialogues")]) + ([kept] if kept.exists() and kept.stat().st_size else [])
        problems: list[Problem] = []
        self._say = say
        self._others = [_named_shortly(found) for found in read_corpus(files, problems)]

    def look(self, dialogues: Sequence[Dialogue]) -> list[Look]:
        """What is seen of each dialogue; they are compared with one another too. It takes some seconds."""
        if not dialogues:
            return []
        # The file's name is left out: one from a file called test.jsonl is no line of the test set.
        entries = [replace(entry(dialogue), file="") for dialogue in dialogues]
        findings = [*form.form(entries), *wording.wording(entries), *near.near(entries, self._others, self._say)]
        neighbours = self._neighbours(entries)
        return [
            Look(
                tuple(_of(seen, findings, contamination=False)),
                tuple(_of(seen, findings, contamination=True)),
                tuple(dict.fromkeys(found for text in seen.texts for found in personal(text))),
                tuple(nearest),
            )
            for seen, nearest in zip(entries, neighbours, strict=True)
        ]

    def _neighbours(self, entries: Sequence[Entry]) -> list[list[Neighbour]]:
        lines = [line for line in self._others if not line.held_out and mostly_latin(line.asked)]
        if not lines:
            return [[] for _ in entries]
        vectors = embed([seen.asked for seen in (*entries, *lines)], self._say)
        cosines = vectors[: len(entries)] @ vectors[len(entries) :].T
        nearest = np.argsort(-cosines, axis=1)[:, :NEIGHBOURS]
        return [
            [Neighbour(lines[i].where, float(cosines[row, i]), lines[i].asked) for i in nearest[row]]
            if mostly_latin(entries[row].asked)
            else []
            for row in range(len(entries))
        ]


def _of(seen: Entry, findings: Iterable[Finding], *, contamination: bool) -> list[Finding]:
    return [
        finding
        for finding in findings
        if finding.where == seen.where and (finding.rule == "contamination") == contamination
    ]
