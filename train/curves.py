"""Pictures of a run."""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


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


def plot_losses(log: Path, target: Path, title: str) -> None:
    """The training loss by step, raw and smoothed, as a PNG."""
    records = read_log(log)
    steps = [record["step"] for record in records]
    losses = [record["loss"] for record in records]
    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=120)
    axes.plot(steps, losses, color="#9db7d5", linewidth=1, label="each step")
    axes.plot(steps, smoothed(losses), color="#1f4e79", linewidth=2, label="smoothed")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per supervised token)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(target, format="png")
    pyplot.close(figure)
