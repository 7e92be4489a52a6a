"""Answers good and bad, chosen by a rule and not by hand."""

import hashlib
from pathlib import Path
from statistics import fmean

from assistant.held_out import ScriptedConversation
from assistant.release import Release
from evaluation.measured import Measured
from evaluation.report.blocks import Block, Said, Section, Words
from evaluation.report.scores import SETS, whole
from evaluation.sets import Reply, name_of
from evaluation.tables import notes

EACH = 2
"""How many of the best and of the worst of a set."""
RULE = (
    f"Chosen by rule, not by hand: of each set the {EACH} answers that pass most of their checks, and the {EACH} that pass fewest. "
    "Of equals, those come first whose prompt's id has the smaller SHA-256, which is as good as drawing lots."
)


def _passed(script: ScriptedConversation, replies: tuple[Reply, ...]) -> float | None:
    """The share of the checks of all turns that hold; None where there is none, or no answer."""
    shares = [
        0.0 if reply.outcome != "answered" else 1 - len(reply.failed_checks) / len(turn.checks.kinds)
        for turn, reply in zip(script.turns, replies, strict=True)
        if turn.checks is not None
    ]
    if not shares or any(reply.outcome == "unanswered" for reply in replies):
        return None
    return fmean(shares)


def _said(found: Measured, number: int, passed: float, good: bool) -> Said:
    script, replies = found.scripts[number], found.systems[0].replies[number]
    turns = [("system", script.system)] if script.system else []
    for turn, reply in zip(script.turns, replies, strict=True):
        note = notes(reply)
        turns += [("user", turn.user), (f"answer ({note})" if note else "answer", reply.text or "(nothing)")]
    kind = "among the best" if good else "among the worst"
    return Said(f"{found.set}/{name_of(script)}: {kind}, passes {passed:.0%} of its checks", turns, good)


def answers(place: Path, record: Release) -> Section:
    """The best and the worst of each set. A set that was never asked is named elsewhere."""
    blocks: list[Block] = []
    missing = []
    for name in SETS:
        found = whole(place, name)
        if found is None:
            if name in record.scores:
                title = SETS[name][0].lower()
                missing.append(
                    f"{title}: the scores are here and the answers are not; thousand evaluate {name} --release {record.name}"
                )
            continue
        shares = {
            number: share
            for number, (script, replies) in enumerate(zip(found.scripts, found.systems[0].replies, strict=True))
            if (share := _passed(script, replies)) is not None
        }

        def lot(number: int, found: Measured = found) -> str:
            return hashlib.sha256(name_of(found.scripts[number]).encode()).hexdigest()

        best = sorted(shares, key=lambda number: (-shares[number], lot(number)))[:EACH]
        worst = sorted(shares, key=lambda number: (shares[number], lot(number)))[:EACH]
        blocks += [_said(found, number, shares[number], True) for number in best]
        blocks += [_said(found, number, shares[number], False) for number in worst if number not in best]
    return Section("Answers, good and bad", [Words(RULE), *blocks] if blocks else (), missing)
