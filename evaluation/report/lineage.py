"""Where a release comes from: base, data, recipe, hashes, and the run that made it."""

from pathlib import Path

from assistant.lineage import DIALOGUES
from assistant.release import Release
from evaluation.report.blocks import Block, Grid, Picture, Section, Words

PLOT = "training.png"


def lineage(place: Path, record: Release) -> Section:
    """Base, template, adapter and data, each with its hash, and the recipe."""
    facts = [
        ("made", f"{record.created:%Y-%m-%d %H:%M} UTC, with Thousand {record.version}"),
        ("base", record.base_name),
        ("base, checksum", record.base_checksum),
        ("weights, SHA-256", f"{record.adapter_sha256} ({record.method})"),
        ("vocabulary", record.vocabulary),
        ("template", ", ".join(f"{name} {value}" for name, value in record.template.items())),
        (
            "sampling",
            ", ".join(f"{name} {value}" for name, value in record.sampling.model_dump(exclude={"stop"}).items()),
        ),
        (f"dialogues, by fingerprint ({DIALOGUES})", "in its folder" if (place / DIALOGUES).exists() else "not kept"),
    ]
    if record.guard is not None and record.guard.override is not None:
        facts.append(("promoted in spite of its guard", record.guard.override.why))
    data = [
        [file.name, str(file.dialogues), f"{file.tokens:,}", f"{file.supervised_tokens:,}", file.sha256]
        for file in record.data
    ]
    total = [sum(file.dialogues for file in record.data), sum(file.tokens for file in record.data)]
    supervised = sum(file.supervised_tokens for file in record.data)
    data.append(["all", str(total[0]), f"{total[1]:,}", f"{supervised:,}", ""])
    blocks: list[Block] = [
        Grid(("", ""), facts),
        Words("Trained on:"),
        Grid(("file", "dialogues", "tokens", "supervised", "SHA-256"), data),
        Words(f"{len(record.cut)} dialogues did not fit whole." if record.cut else "Every dialogue fitted whole."),
        Words("The recipe:"),
        Grid(("number", "value"), [(name, str(value)) for name, value in record.recipe.items()]),
    ]
    return Section("Lineage", blocks)


def training(place: Path, record: Release) -> Section:
    """The run: its curves, and each checkpoint with what it scored while the release was chosen."""
    run = record.training
    blocks: list[Block] = []
    if run:
        blocks.append(Words(", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in run.items())))
    if (place / PLOT).exists():
        alt = "Training loss, loss on the dev answers, and the dev score of each checkpoint"
        blocks.append(Picture(PLOT, alt, (place / PLOT).read_bytes()))
    if record.checkpoints:
        rows = [
            [
                f"{one['step']}{' (this release)' if one['step'] == record.chosen_step else ''}",
                f"{one['epoch']:.2f}",
                f"{one['train_loss']:.3f}",
                f"{one['dev_loss']:.3f}",
                f"{one['score']['mean']:.3f} [{one['score']['low']:.3f}, {one['score']['high']:.3f}]",
            ]
            for one in record.checkpoints
        ]
        blocks.append(Grid(("step", "epoch", "training loss", "loss on dev answers", "dev score"), rows))
    return Section("Training", blocks, () if blocks else ("the run that made it: nothing is kept of it",))
