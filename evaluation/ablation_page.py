"""An ablation for people: a table, a page, a picture, and a line for each training."""

import json
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from rich.table import Table

from assistant.console import minutes
from assistant.files import atomic_path, write_text
from evaluation.ablations import RECORD, Ablation, ArmResult, Kind
from evaluation.intervals import HOW, Interval, present
from evaluation.tables import counted, markdown_table

PAPER: dict[Kind, str] = {
    "quality": "The paper (7B, 2,000 examples, graded 1 to 6): filtered Stack Exchange 3.83, unfiltered 3.33.",
    "diversity": "The paper (7B, 2,000 examples, graded 1 to 6): heterogeneous Stack Exchange 3.83, homogeneous wikiHow 3.49.",
    "quantity": "The paper (7B): from 2,000 to 32,000 examples nothing changes.",
    "chains": "The paper (65B, people's grades of turns): Excellent / Pass / Fail 45.2 / 19.1 / 35.7 % without chains, "
    "76.1 / 21.7 / 2.2 % with 30.",
}
DRAWN: dict[Kind, tuple[tuple[str, str], ...]] = {
    "quality": (("dev", "score"), ("dev", "stopped"), ("constraints", "checks_loose")),
    "diversity": (("dev", "score"), ("dev", "stopped"), ("constraints", "checks_loose")),
    "quantity": (("dev", "score"), ("dev", "stopped"), ("constraints", "checks_loose")),
    "chains": (("conversations", "turns_passed"), ("conversations", "without_failure"), ("dev", "score")),
}
"""The measures in the picture: set and name."""
_OF_ALL = re.compile(r"(prompts|checks)_\w+|stopped")
"""Of the constraints the measures in the table; the record has those of every kind of check too."""


def rows(record: Ablation) -> list[list[str]]:
    """What each arm is, and every measure with its 95 % interval."""
    found = [
        ["dialogues", *[_each(arm, "dialogues") for arm in record.arms]],
        ["tokens trained on", *[_each(arm, "tokens") for arm in record.arms]],
        ["epochs", *[_each(arm, "epochs") for arm in record.arms]],
        ["steps, chosen", *[_steps(arm) for arm in record.arms]],
    ]
    names = dict.fromkeys(
        (one.set, one.name)
        for arm in record.arms
        for one in arm.measures
        if one.set != "constraints" or _OF_ALL.fullmatch(one.name)
    )
    for of, name in names:
        measures = [arm.measure(of, name) for arm in record.arms]
        found.append([f"{of}: {name}", *["" if one is None else str(one.value) for one in measures]])
        if any(one is not None and one.difference is not None for one in measures) and name != "words":
            apart = [one.difference if one is not None else None for one in measures]
            found.append([f"  less {record.reference}", *[_signed(one) for one in apart]])
    return found


def _each(arm: ArmResult, number: str) -> str:
    values = dict.fromkeys(getattr(one, number) for one in arm.trained)
    return " / ".join(f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" for value in values)


def _steps(arm: ArmResult) -> str:
    return " / ".join(dict.fromkeys(f"{one.steps}, {one.chosen_step}" for one in arm.trained))


def _signed(apart: Interval | None) -> str:
    if apart is None:
        return ""
    return f"{apart.mean:+.3g} [{apart.low:+.3g}, {apart.high:+.3g}]"


def table(record: Ablation) -> Table:
    """For the terminal."""
    shown = Table("", *[arm.name for arm in record.arms], box=None)
    for row in rows(record):
        shown.add_row(*row)
    return shown


def remarks(record: Ablation) -> list[str]:
    """What a reader of the numbers must know, a line each."""
    done = sum(len(arm.trained) + len(arm.failed) for arm in record.arms)
    lines = [] if record.whole else [f"Not whole: {done} of {record.planned} arms are done; the same command goes on."]
    lines.append(
        f"Base {Path(record.base).name}; {record.budget}; {counted(len(record.seeds), 'seed')}. In brackets the "
        f"{HOW}, each with its mean over the seeds; what another choice of data or another seed would change is not in it."
    )
    lines += [f"{arm.name}, seed {seed}: failed: {why}" for arm in record.arms for seed, why in arm.failed.items()]
    lines += [
        f"{arm.name}, seed {one.seed}: is the release {one.release}, made {one.made:%Y-%m-%d}"
        for arm in record.arms
        for one in arm.trained
        if one.reused
    ]
    lines += [f"left out {duplicate}" for duplicate in record.left_out]
    for arm in record.arms:
        for one in arm.trained:
            if one.unanswered:
                told = "; ".join(f"{prompt}: {problem}" for prompt, problem in one.unanswered.items())
                lines.append(
                    f"{arm.name}, seed {one.seed}: no answer to {counted(len(one.unanswered), 'prompt')}, not scored; the same command asks "
                    f"again: {told}"
                )
            if one.first_failures:
                where = ", ".join(f"turn {turn} in {count}" for turn, count in one.first_failures.items())
                lines.append(f"{arm.name}, seed {one.seed}: conversations fail first at {where}")
    lines.append(PAPER[record.kind])
    return lines


def lines(record: Ablation) -> str:
    """A line of JSON for each training, to be kept beside others: what it was, and its means with their intervals."""
    found = []
    for arm in record.arms:
        for one in arm.trained:
            figures = {
                f"{of}.{name}": Interval.of_measure(name, present(column)).model_dump()
                for of, columns in one.values.items()
                for name, column in columns.items()
                if present(column)
            }
            told = {"ablation": record.kind, "arm": arm.name, "base": Path(record.base).name, "budget": record.budget}
            found.append(
                json.dumps({**told, **json.loads(one.model_dump_json(exclude={"values"})), "figures": figures})
            )
        found += [
            json.dumps({"ablation": record.kind, "arm": arm.name, "seed": seed, "failed": why})
            for seed, why in arm.failed.items()
        ]
    return "".join(f"{line}\n" for line in found)


def markdown(record: Ablation) -> str:
    """The page."""
    told = [f"# Ablation: {record.kind}", "", f"{record.made:%Y-%m-%d}, version {record.version}", ""]
    told += markdown_table(["", *[arm.name for arm in record.arms]], rows(record))
    told += ["", f"![{record.kind}](ablation.png)", ""]
    told += [f"- {arm.name}: {arm.what}" for arm in record.arms]
    told += [line for remark in remarks(record) for line in ("", remark)]
    spent = sum(one.seconds for arm in record.arms for one in arm.trained if not one.reused)
    told += ["", f"Training took {minutes(spent)} in all, without the releases that were there before."]
    return "\n".join(told) + "\n"


def _plot(axes: Axes, record: Ablation, of: str, name: str) -> None:
    drawn = [(arm, one) for arm in record.arms if (one := arm.measure(of, name)) is not None]
    quantity = record.kind == "quantity"
    places = [float(arm.size) if quantity else float(number) for number, (arm, _) in enumerate(drawn)]
    means = [one.value.mean for _, one in drawn]
    spread = [
        [one.value.mean - one.value.low for _, one in drawn],
        [one.value.high - one.value.mean for _, one in drawn],
    ]
    axes.errorbar(
        places,
        means,
        yerr=spread,
        color="#1f4e79",
        ecolor="#9fb8d3",
        elinewidth=3,
        marker="o",
        linestyle="-" if quantity else "none",
        label="mean, 95 % interval over prompts",
    )
    for place, (_, one) in zip(places, drawn, strict=True):
        if len(one.seeds) > 1:
            axes.plot([place] * len(one.seeds), one.seeds, color="#c0504d", marker="_", markersize=9, linestyle="none")
    if quantity:
        axes.set_xscale("log", base=2)
    axes.set_xticks(places, [arm.name for arm, _ in drawn])
    axes.minorticks_off()
    axes.set_title(f"{of}: {name}", fontsize=9)
    axes.grid(alpha=0.3)


def _plot_turns(axes: Axes, record: Ablation) -> None:
    for number, arm in enumerate(record.arms):
        turns = [one for one in arm.measures if one.set == "conversations" and one.name.startswith("turn ")]
        places = [float(one.name.removeprefix("turn ")) + 0.08 * number for one in turns]
        spread = [
            [one.value.mean - one.value.low for one in turns],
            [one.value.high - one.value.mean for one in turns],
        ]
        axes.errorbar(places, [one.value.mean for one in turns], yerr=spread, marker="o", label=f"{arm.name} chains")
    axes.set_title("conversations: passed, by turn", fontsize=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def plot(record: Ablation, target: Path) -> None:
    """The curve of an ablation with its intervals, a PNG; red marks are single seeds."""
    drawn = DRAWN[record.kind]
    panels = len(drawn) + (record.kind == "chains")
    figure, axes = pyplot.subplots(1, panels, figsize=(3.6 * panels, 3.4), dpi=120, layout="constrained", squeeze=False)
    for place, (of, name) in zip(axes[0], drawn, strict=False):
        _plot(place, record, of, name)
    if record.kind == "chains":
        _plot_turns(axes[0][-1], record)
    axes[0][0].set_xlabel({"quantity": "single-turn examples", "chains": "chains"}.get(record.kind, "data"))
    figure.suptitle(f"{record.kind}: {record.budget}", fontsize=9)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png")
    pyplot.close(figure)


def write_report(record: Ablation, place: Path) -> None:
    """The record, its page with the picture, and its lines, into the ablation's folder."""
    plot(record, place / "ablation.png")
    write_text(place / "ablation.md", markdown(record))
    write_text(place / "results.jsonl", lines(record))
    write_text(place / RECORD, record.model_dump_json(indent=1) + "\n")
