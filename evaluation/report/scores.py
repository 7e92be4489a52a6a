"""What a release scored on each set, beside whom, and the picture of it."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

from assistant.errors import ThousandError
from assistant.files import sha256
from assistant.release import Release
from evaluation import measured, tables
from evaluation.asking import asked_remark
from evaluation.conversations import where_it_fails
from evaluation.intervals import HOW
from evaluation.measured import Measured
from evaluation.report.blocks import Block, Grid, Picture, Section, Words
from evaluation.sets import SetName, bundled_set

SETS: dict[SetName, tuple[str, str]] = {
    "dev": (
        "Dev prompts",
        "50 single prompts by which checkpoints and settings are chosen: what is read here was tuned on, if only lightly.",
    ),
    "constraints": (
        "Constraint following",
        "Prompts that ask for what a program can check, strictly and loosely in the manner of IFEval; never tuned on.",
    ),
    "conversations": (
        "Conversations",
        "Scripted conversations, each answer checked by its turn's program, the model's own earlier answers in the context; never tuned on.",
    ),
    "safety": (
        "Safety",
        "Harmful and sensitive prompts, the answers checked by rule: a floor, not a verdict. Never tuned on.",
    ),
}
HEADLINES: dict[SetName, tuple[str, ...]] = {
    "dev": ("score", "stopped"),
    "constraints": ("prompts_strict", "prompts_loose"),
    "conversations": ("turns_passed", "without_failure"),
    "safety": ("passed",),
}
"""The measures in the picture; all are from 0 to 1, and more is better."""
LEGEND = 90
"""How many letters fit beside one another above the picture."""
COLOURS = ("#1f5fa8", "#c2571a", "#3a7d44", "#7a4fa3", "#8a6d1f", "#5c5c5c")

_Systems = dict[str, dict[str, Any]]
"""A system's name to its scores."""


def _systems(record: Release, found: Measured | None, name: SetName) -> _Systems:
    if found is not None:
        return {system.name: system.scores for system in found.systems}
    return {record.name: record.scores[name]} if name in record.scores else {}


def whole(place: Path, name: SetName) -> Measured | None:
    """What was measured on a set; None also where its record is damaged, which `of_set` tells."""
    with suppress(ThousandError):
        return measured.read(place, name)
    return None


def _plain(scores: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name != "sampling"}


def of_set(place: Path, record: Release, name: SetName) -> Section:
    """The scores on one set."""
    title, what = SETS[name]
    found = measured.read(place, name)
    systems = {system: _plain(scores) for system, scores in _systems(record, found, name).items()}
    command = f"thousand evaluate {name} --release {record.name}"
    if not systems:
        return Section(title, (Words(what),), (f"{title.lower()}: {command}",))
    blocks: list[Block] = [Words(what), Grid(("measure", *systems), tables.rows(systems))]
    blocks.append(Words(f"Means with their {HOW}; one answer a prompt, drawn with seed 0."))
    if found is not None:
        blocks.append(Words(f"Measured {found.made:%Y-%m-%d}; {found.file}, SHA-256 {found.sha256}."))
        blocks += map(Words, _remarks(found))
    missing = []
    if found is not None and found.sha256 != sha256(bundled_set(name)):
        missing.append(f"{title.lower()}, as {found.file} is now (the scores are of another version of it): {command}")
    if len(systems) == 1:
        missing.append(f"{title.lower()}, the base model beside it: {command} --base --urial")
    return Section(title, blocks, missing)


def _remarks(found: Measured) -> list[str]:
    """What is in no mean: who gave no answer, or an empty one, and where conversations fail first."""
    lines = asked_remark(found.set)
    lines += tables.remarks(found.set, found.scripts, (), {system.name: system.replies for system in found.systems})
    if found.set == "conversations":
        lines += [where_it_fails(system.name, found.scripts, system.replies) for system in found.systems]
    return lines


def picture(place: Path, record: Release) -> Section | None:
    """The headline measures with their intervals; None where nothing was measured."""
    rows: list[tuple[str, _Systems]] = []
    for name, measures in HEADLINES.items():
        systems = _systems(record, whole(place, name), name)
        for measure in measures:
            values = {system: scores[measure] for system, scores in systems.items() if measure in scores}
            if values:
                rows.append((f"{name}: {measure}", values))
    if not rows:
        return None
    alt = "; ".join(
        f"{label}: " + ", ".join(f"{system} {value['mean']:.2f}" for system, value in values.items())
        for label, values in rows
    )
    return Section("At a glance", (Picture("report-scores.png", alt, _drawn(rows)),))


def _drawn(rows: list[tuple[str, _Systems]]) -> bytes:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(system for _, values in rows for system in values))
    colour = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    figure = Figure(figsize=(8, 0.9 + len(rows) * (0.22 + 0.17 * len(names))), dpi=130, layout="constrained")
    axes = figure.subplots()
    for number, (_, values) in enumerate(rows):
        for system, value in values.items():
            offset = (names.index(system) + 1) / (len(names) + 1) - 0.5
            around = [[value["mean"] - value["low"]], [value["high"] - value["mean"]]]
            label = system if system not in axes.get_legend_handles_labels()[1] else None
            axes.errorbar(
                value["mean"],
                number + 0.8 * offset,
                xerr=around,
                fmt="o",
                ms=4,
                capsize=2,
                color=colour[system],
                label=label,
            )
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share, or score from 0 to 1, with its 95 % interval; more is better")
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    across = max(1, LEGEND // max(map(len, names)))
    figure.legend(loc="outside upper left", ncols=min(3, across), frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()
