"""The measurements of a run, as its log holds them."""

import json
from collections.abc import Sequence
from pathlib import Path


def read_log(log: Path) -> list[dict[str, float]]:
    """The measurements of a run, one a step; of a step that was done again after a resume, the later one."""
    by_step = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # cut by a crash; the resumed run did that step again
            continue
        by_step[record["step"]] = record
    return [by_step[step] for step in sorted(by_step)]


def smoothed(losses: Sequence[float]) -> list[float]:
    """The exponential mean of losses by step, half-life 5 steps."""
    smooth: list[float] = []
    for loss in losses:
        smooth.append(loss if not smooth else smooth[-1] * 0.87 + loss * 0.13)
    return smooth
