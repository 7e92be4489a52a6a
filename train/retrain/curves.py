"""What the page draws of a run: its losses, and the scores of its checkpoints."""

import json
from typing import NamedTuple

from assistant.settings import settings
from train.curves import read_log, smoothed


class Curves(NamedTuple):
    """Points, by optimizer step."""

    losses: list[tuple[int, float, str]]
    """Step, nats per supervised token, and of what."""
    scores: list[tuple[int, float]]
    """Step, and the mean score of the answers to the dev prompts."""


def curves_of(run: str) -> Curves:
    """The curves of a run so far; empty before its first step."""
    place = settings().home / "runs" / run
    steps = read_log(place / "log.jsonl") if (place / "log.jsonl").exists() else []
    smooth = smoothed([step["loss"] for step in steps])
    losses = [(int(step["step"]), loss, "training") for step, loss in zip(steps, smooth, strict=True)]
    choices = place / "choices.jsonl"
    scored = [json.loads(line) for line in choices.read_text().splitlines()] if choices.exists() else []
    losses += [(one["step"], one["dev_loss"], "dev prompts") for one in scored]
    return Curves(losses, [(one["step"], one["score"]["mean"]) for one in scored])
