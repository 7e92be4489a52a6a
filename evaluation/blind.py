"""A person's vote on pairs of answers, blind: which side is the candidate's is drawn for each pair and not shown.

The sample is a file beside the comparison, written after each vote; it goes on where it was left. What comes of it, and nothing
else, is called human preference. As in the paper (section 4): one answer of each system to a prompt; A is better, B is better, or
neither is significantly better.
"""

import random
import secrets
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from assistant import release
from assistant.errors import ThousandError
from assistant.files import write_text
from evaluation.compare import Comparison
from evaluation.intervals import Interval
from evaluation.sets import name_of

SIZE = 20
"""Pairs: about a quarter of an hour."""
Vote = Literal["A", "B", "no difference"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pair(_Model):
    """Two answers to one prompt, as they are shown."""

    prompt: str
    """Its id."""
    system: str | None
    user: str
    a: str
    b: str


class Preference(_Model):
    """Human preference: what the votes say."""

    better: int
    """Pairs in which the candidate's answer was found better."""
    no_difference: int
    worse: int
    difference: Interval
    """The share better less the share worse, with its 95 % bootstrap interval over the pairs."""

    @property
    def votes(self) -> int:
        return self.better + self.no_difference + self.worse


class Sample(_Model):
    """The pairs of one comparison and the votes so far."""

    comparison: str
    """The id of the comparison."""
    candidate: str
    current: str
    seed: int
    pairs: tuple[Pair, ...]
    candidate_is: tuple[Literal["A", "B"], ...]
    """Not to be shown before the last vote."""
    votes: tuple[Vote | None, ...]
    same: tuple[str, ...]
    """Prompts that both answered in the same words; there is nothing to vote on."""
    unanswered: tuple[str, ...]
    """Prompts that one of them did not answer, as its engine failed."""

    @property
    def next(self) -> int | None:
        """The place (from 0) of the first pair without a vote; None when all have one."""
        return self.votes.index(None) if None in self.votes else None

    @property
    def file(self) -> Path:
        return _file(self.candidate, self.comparison)

    @classmethod
    def open(cls, comparison: Comparison, *, size: int = SIZE, seed: int | None = None) -> "Sample":
        """The sample of a comparison, as it was left; drawn the first time (`seed` by lot unless given).

        Raises ThousandError when there is no pair to vote on, or the file is damaged.
        """
        file = _file(comparison.candidate.name, comparison.id)
        with _lock():
            if file.exists():
                return _read(file)
            drawn = _draw(comparison, size, secrets.randbelow(2**32) if seed is None else seed)
            write_text(file, drawn.model_dump_json(indent=1) + "\n")
            return drawn

    def vote(self, place: int, vote: Vote | None) -> "Sample":
        """Write a vote down, or take it back, and return the sample as it is then on the disk, where another window may have voted too."""
        with _lock():
            now = _read(self.file)
            votes = tuple(vote if number == place else one for number, one in enumerate(now.votes))
            voted = now.model_copy(update={"votes": votes})
            write_text(self.file, voted.model_dump_json(indent=1) + "\n")
            return voted

    def result(self) -> Preference | None:
        """What the votes so far say; None without any."""
        sides = zip(self.votes, self.candidate_is, strict=True)
        values = [0.0 if vote == "no difference" else 1.0 if vote == side else -1.0 for vote, side in sides if vote]
        if not values:
            return None
        return Preference(
            better=values.count(1.0),
            no_difference=values.count(0.0),
            worse=values.count(-1.0),
            difference=Interval.of(values),
        )


def _lock() -> FileLock:
    return FileLock(release.folder() / "votes.lock")


def _file(candidate: str, comparison: str) -> Path:
    return release.path(candidate) / f"blind-{comparison}.json"


def _read(file: Path) -> Sample:
    try:
        return Sample.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ThousandError(f"{file} is damaged; remove it, and a new sample is drawn.") from None


def _draw(comparison: Comparison, size: int, seed: int) -> Sample:
    source = random.Random(seed)  # noqa: S311 (no secret)
    compared = comparison.set("dev")
    same: list[str] = []
    unanswered: list[str] = []
    found: list[tuple[Pair, Literal["A", "B"]]] = []
    for script, (first,), (second,) in zip(compared.scripts, compared.candidate, compared.current, strict=True):
        if "unanswered" in (first.outcome, second.outcome):
            unanswered.append(name_of(script))
        elif first.text.strip() == second.text.strip():
            same.append(name_of(script))
        else:
            side: Literal["A", "B"] = source.choice(("A", "B"))
            a, b = (first.text, second.text) if side == "A" else (second.text, first.text)
            found.append(
                (Pair(prompt=name_of(script), system=script.system, user=script.turns[0].user, a=a, b=b), side)
            )
    if not found:
        raise ThousandError(
            f"{comparison.candidate.name} and {comparison.current.name} answered every dev prompt in the same words; there is nothing to vote on."
        )
    chosen = source.sample(found, min(size, len(found)))
    return Sample(
        comparison=comparison.id,
        candidate=comparison.candidate.name,
        current=comparison.current.name,
        seed=seed,
        pairs=tuple(pair for pair, _ in chosen),
        candidate_is=tuple(side for _, side in chosen),
        votes=(None,) * len(chosen),
        same=tuple(same),
        unanswered=tuple(unanswered),
    )
