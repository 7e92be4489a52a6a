"""`thousand data ...`: one short function per verb; the work is done in train/data/."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from assistant.base_model import EMBEDDED
from assistant.cli_curate import curate_app
from assistant.cli_review import data_add, data_review
from assistant.console import DataOption, out, say

data_app = typer.Typer(help="Look at training data, check it, convert it.", no_args_is_help=True)
data_app.command("add")(data_add)
data_app.command("review")(data_review)
data_app.add_typer(curate_app, name="curate")

SourcesArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[FILE_OR_DIR]...", help="Files and folders; by default the data that comes along."),
]


@data_app.command("audit")
def data_audit(sources: SourcesArgument = None) -> None:
    """Look for everything a program can find wrong with a data set; exit status 1 when something must be mended."""
    from assistant.settings import bundled
    from train.data.audit import audit, summary

    report = audit(sources or [bundled("dialogues")], say)
    for finding in report.findings:
        out.print(str(finding), markup=False, highlight=False, soft_wrap=True)
    out.print(summary(report))
    out.print(
        f"{report.errors} errors and {len(report.findings) - report.errors} warnings in {report.lines:,} lines of {report.files} files"
    )
    if report.errors:
        raise typer.Exit(1)


@data_app.command("stats")
def data_stats(
    sources: SourcesArgument = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write a map of the prompts and the lengths to this PNG file.")
    ] = None,
    base: Annotated[str, typer.Option(help="The base model whose tokens are counted.")] = EMBEDDED,
) -> None:
    """Counts, diversity, lengths and style; several sources stand side by side, to be compared."""
    from assistant import base_model
    from assistant.settings import bundled
    from assistant.template import Template
    from train.data import stats

    template = Template.load(base_model.resolve(base, say).folder)
    chosen = sources or [bundled("dialogues")]
    names = [source.resolve().stem for source in chosen]
    sets = [
        stats.read_set(
            source,
            # Two sources of one name are told apart by where they are.
            name if names.count(name) == 1 else str(source),
            lambda text: len(template.tokenizer.encode(text, add_special_tokens=False).ids),
            say,
        )
        for source, name in zip(chosen, names, strict=True)
    ]
    tables = (stats.files_table, stats.numbers_table, stats.forms_table, stats.lengths_table, stats.topics_table)
    for table in tables:
        out.print(table(sets))
        out.print()
    if picture:
        from train.data.picture import draw

        draw(sets, picture)
        out.print(f"The picture is in {picture}", markup=False, highlight=False, soft_wrap=True)


@data_app.command("convert")
def data_convert(
    source: Annotated[
        Path, typer.Argument(metavar="FROM", help="A .jsonl file or a JSON array; its format is seen from its lines.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TO", help="The new file; a JSON array where its name ends in .json.")
    ],
    to: Annotated[
        Literal["thousand", "openai", "lima", "sharegpt", "alpaca"], typer.Option("--to", help="The format to write.")
    ] = "thousand",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Write what can be converted, and report the rest.")
    ] = False,
) -> None:
    """Convert dialogues from or into OpenAI messages, LIMA, ShareGPT or Alpaca."""
    from train.data.convert import convert

    done = convert(source, target, to, skip_bad)
    for problem in done.problems:
        say(str(problem))
    for name, count in sorted(done.left_out.items()):
        say(f"left out, as {to} has no place for it: {name} ({count} lines)")
    read = ", ".join(f"{count} in {name}" for name, count in done.formats.most_common())
    out.print(
        f"{done.written} dialogues written to {target} in {to}; read: {read}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if done.problems:
        out.print(
            f"{len({problem.where for problem in done.problems})} lines could not be converted and were left out",
            style="yellow",
        )


@data_app.command("schema")
def data_schema() -> None:
    """Print the JSON Schema of a line of a data file."""
    from assistant.dialogue import Dialogue

    out.print_json(data=Dialogue.model_json_schema())


@data_app.command("show")
def data_show(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="A dialogue's id.")],
    data: DataOption = None,
    base: Annotated[str, typer.Option(help="The base model whose tokenizer is used.")] = EMBEDDED,
) -> None:
    """Print a dialogue's tokens: green ones are learnt, dim ones only read, red is the stop label."""
    from assistant import base_model
    from assistant.dialogue import find, read_dialogues
    from assistant.settings import bundled
    from assistant.template import Template
    from train.data.show import show

    dialogue = find(
        read_dialogues(data or [bundled("dialogues"), bundled("dialogues") / "dev.jsonl"], held_out=True), identifier
    )
    out.print(show(dialogue, Template.load(base_model.resolve(base, say).folder)))
