"""Which of the two should chat: what the comparison and its guard say, kept in the candidate's record."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from assistant import release
from assistant.base_model import Say
from assistant.release import Guard
from evaluation.compare import Comparison, compare
from evaluation.guard import guard
from evaluation.sets import SetName


class Verdict(NamedTuple):
    """Promote the candidate, or keep the current release."""

    comparison: Comparison
    reasons: list[str]
    """What stands against the candidate."""

    @property
    def sentence(self) -> str:
        """For people."""
        candidate, current = self.comparison.candidate.name, self.comparison.current.name
        if not self.reasons:
            return (
                f"Promote {candidate}: nothing that is measured is worse than with {current} by more than another seed of the same "
                "training would change it."
            )
        return f"Keep {current}: " + " ".join(_ended(reason) for reason in self.reasons)

    @property
    def next_step(self) -> str:
        """The command for it."""
        candidate = self.comparison.candidate.name
        if self.reasons:
            return f'In spite of that:  thousand releases promote {candidate} --override "WHY"'
        return f"Make it the one that chats:  thousand releases promote {candidate}"


def _ended(reason: str) -> str:
    return reason if reason.endswith(".") else f"{reason}."


def judged(
    candidate: str,
    current: str,
    prompts: Mapping[SetName, Path],
    max_tokens: int,
    say: Say,
    far: Callable[[int, int, str, float | None], None],
) -> Verdict:
    """Compare a candidate with the release that it is to replace. What was answered before an interruption is not asked again.

    Raises what `evaluation.compare.compare` raises.
    """
    began = time.monotonic()

    def progress(done: int, total: int, beside: str) -> None:
        far(done, total, f"answers of {beside}", (time.monotonic() - began) / done * (total - done) if done else None)

    return record(compare(candidate, current, say=say, progress=progress, files=prompts, max_tokens=max_tokens))


def record(comparison: Comparison) -> Verdict:
    """Keep in the candidate's record what a comparison says of it, so that promoting it asks for that."""
    reasons = [reason.sentence for reason in guard(comparison)]
    place = release.path(comparison.candidate.name)
    known = release.read(place)
    found = Guard(against=comparison.current.name, compared=comparison.made, reasons=reasons)
    release.write(place, known.model_copy(update={"guard": found}))
    return Verdict(comparison, reasons)


def renew(comparison: Comparison) -> None:
    """Do that for a comparison that was made by itself, if its candidate was retrained; others need no verdict to be promoted."""
    if release.read(release.path(comparison.candidate.name)).guard is not None:
        record(comparison)
