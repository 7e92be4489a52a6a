"""How a checkpoint was chosen, for people: a table, a picture, and whether the loss would have chosen it too."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.table import Table

from train.choose import Scored, choose, compared_by
from train.curves import read_log, smoothed

FEWEST_FOR_RANKS = 4
"""Checkpoints below which a rank correlation says nothing."""


def table(candidates: Sequence[Scored]) -> Table:
    """The checkpoints in the order of their steps, the chosen one marked."""
    chosen = choose(candidates)
    names = list(dict.fromkeys(name for scored in candidates for name in scored.parts))
    shown = Table("", "step", "epoch", "score", "train loss", "dev loss", *names, "words", box=None)
    judged = any(scored.graded or scored.judge_failed for scored in candidates)
    if judged:
        shown.add_column("graded")
    for scored, interval in zip(candidates, compared_by(candidates), strict=True):
        cells = [
            "→" if scored is chosen else "",
            str(scored.step),
            f"{scored.epoch:.3g}",
            f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]",
            f"{scored.train_loss:.3f}",
            f"{scored.dev_loss:.3f}",
            *[f"{scored.parts[name]:.3f}" if name in scored.parts else "" for name in names],
            f"{scored.words:.0f}",
        ]
        if judged:
            cells.append(f"{scored.graded}, {scored.judge_failed} failed")
        shown.add_row(*cells, style="bold" if scored is chosen else "")
    return shown


def agreement(candidates: Sequence[Scored]) -> str:
    """One sentence on whether dev loss and dev score order the checkpoints alike (Spearman's rank correlation)."""
    from scipy.stats import spearmanr

    chosen = choose(candidates)
    lowest = min(candidates, key=lambda scored: (scored.dev_loss, scored.step))
    by_loss = (
        "The dev loss is lowest at the chosen checkpoint too."
        if lowest.step == chosen.step
        else f"The dev loss is lowest at step {lowest.step}, and step {chosen.step} is chosen by the dev score."
    )
    losses, scores = [scored.dev_loss for scored in candidates], [score.mean for score in compared_by(candidates)]
    if len(candidates) < FEWEST_FOR_RANKS or len(set(losses)) == 1 or len(set(scores)) == 1:
        return f"{by_loss} Whether they go together cannot be told from {len(candidates)} checkpoints."
    rank = -float(spearmanr(losses, scores).statistic)
    verdict = "go together" if rank > 0.5 else "go against each other" if rank < -0.5 else "hardly go together"
    return (
        f"{by_loss} Over {len(candidates)} checkpoints a low dev loss and a high dev score {verdict} "
        f"(Spearman's rank correlation {rank:.2f})."
    )


def _mark(axes: Axes, step: int) -> None:
    axes.axvline(step, color="#2e7d32", linewidth=1.2, linestyle="--", zorder=0)


def _plot_losses(axes: Axes, log: Path, candidates: Sequence[Scored]) -> None:
    records = read_log(log)
    steps, losses = [record["step"] for record in records], [record["loss"] for record in records]
    axes.plot(steps, losses, color="#c9d6e8", linewidth=0.8)
    axes.plot(steps, smoothed(losses), color="#1f4e79", linewidth=1.8, label="training, smoothed")
    dev = [(scored.step, scored.dev_loss) for scored in candidates]
    axes.plot(
        *zip(*dev, strict=True), color="#c0504d", marker="s", markersize=4.5, linewidth=1.4, label="dev references"
    )
    axes.set_ylabel("loss, nats per\nsupervised token")


def _plot_scores(axes: Axes, candidates: Sequence[Scored], chosen: Scored) -> None:
    intervals = compared_by(candidates)
    steps, means = [scored.step for scored in candidates], [interval.mean for interval in intervals]
    below = [interval.mean - interval.low for interval in intervals]
    above = [interval.high - interval.mean for interval in intervals]
    axes.errorbar(
        steps,
        means,
        yerr=[below, above],
        color="#7b4ea3",
        ecolor="#c3aed6",
        elinewidth=3,
        marker="o",
        markersize=4.5,
        linewidth=1.6,
        label="mean over the dev prompts, 95 % interval",
    )
    best = next(interval for scored, interval in zip(candidates, intervals, strict=True) if scored is chosen)
    axes.plot(
        [chosen.step],
        [best.mean],
        color="#2e7d32",
        marker="*",
        markersize=13,
        linestyle="none",
        label=f"chosen: step {chosen.step}, {best.mean:.3f}",
        zorder=5,
    )
    axes.set_ylabel("dev score")


def _plot_stops(axes: Axes, candidates: Sequence[Scored]) -> None:
    axes.plot(
        [scored.step for scored in candidates],
        [scored.stop_rate for scored in candidates],
        color="#b36b00",
        marker="o",
        markersize=4.5,
        linewidth=1.4,
    )
    axes.set_ylabel("answers that end\nby themselves")
    axes.set_ylim(-0.04, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def plot_choice(log: Path, candidates: Sequence[Scored], target: Path, title: str) -> None:
    """Losses, dev score with its interval, and stop rate over the steps of a run, the chosen checkpoint marked, as a PNG."""
    chosen = choose(candidates)
    figure, panels = pyplot.subplots(
        3, 1, figsize=(7, 7.2), dpi=120, sharex=True, height_ratios=[3, 3, 1.6], layout="constrained"
    )
    losses, scores, stops = panels
    _plot_losses(losses, log, candidates)
    _plot_scores(scores, candidates, chosen)
    _plot_stops(stops, candidates)
    for axes in panels:
        _mark(axes, chosen.step)
        axes.grid(alpha=0.3)
    losses.legend(fontsize=8)
    scores.legend(fontsize=8)
    losses.set_title(title)
    figure.align_ylabels(panels)
    stops.set_xlabel("optimizer step")
    stops.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(target, format="png")
    pyplot.close(figure)
