"""`thousand data curate ...`: one short function per verb; the work is done in train/data/curate/."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.console import out, say, visible, warn
from assistant.errors import ThousandError

if TYPE_CHECKING:
    from train.data.curate.items import Kind
    from train.data.curate.report import Curated
    from train.data.curate.row_rules import Bounds

curate_app = typer.Typer(help="Make a few good examples of many raw texts.", no_args_is_help=True)


@curate_app.callback()
def _curate() -> None:
    """Make a few good examples of many raw texts."""


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        out.print(visible(line), markup=False, highlight=False, soft_wrap=True)


def _tell(done: "Curated", to: Path) -> None:
    """What came of it, and what comes next. Exits with 3 when rows were skipped."""
    from train.data.curate.report import CHAINS, funnel_table, parts_table

    for problem in done.problems:
        warn(visible(problem))
    for table in (funnel_table(done), parts_table(done)):
        out.print(table)
        out.print()
    chosen = len(done.choice.chosen)
    written = [f"{chosen} examples are in {done.selected}" if chosen else "nothing was left to select"]
    if done.chains:
        written.append(f"{done.chains} chains to edit are in {to / CHAINS}")
    _print(["; ".join(written)])
    if chosen:
        _print([f"Next, to accept, edit or reject each:  thousand data add {done.selected} && thousand data review"])
    if done.skipped:
        warn(f"{done.skipped:,} rows or tables were skipped, {len(done.problems)} of them are told above")
        raise typer.Exit(3)


@curate_app.command("stackexchange")
def curate_stackexchange(
    dump: Annotated[
        list[Path],
        typer.Argument(metavar="DUMP...", help="A site's folder (with Posts.xml), its .7z, or a folder of those."),
    ],
    to: Annotated[Path, typer.Option(help="The folder to write to; an earlier run there is gone on with.")],
    stem: Annotated[int, typer.Option(min=0, help="Examples wanted from STEM sites.")] = 200,
    other: Annotated[int, typer.Option(min=0, help="Examples wanted from other sites.")] = 200,
    chains: Annotated[int, typer.Option(min=0, help="Comment chains wanted, for a person to edit.")] = 20,
    seed: Annotated[int, typer.Option(help="The same seed selects the same.")] = 0,
    explain: Annotated[
        str | None, typer.Option(metavar="SITE-NUMBER", help="Write nothing; say why this question stayed or went.")
    ] = None,
) -> None:
    """Select questions and answers of Stack Exchange by the LIMA paper's rules; exit status 3 when rows were skipped."""
    from train.data.curate import stackexchange
    from train.data.curate.choose import choose
    from train.data.curate.explain import explain as explained

    sites, bad = stackexchange.sites_of(dump, say)
    if explain is not None:
        databases = stackexchange.stage(sites, to, say)
        wanted = {"stem": stem, "other": other}
        _print(explained(databases, lambda: choose(stackexchange.parts(databases, seed), wanted, seed, say), explain))
        return
    _tell(stackexchange.curate(sites, bad, to, {"stem": stem, "other": other}, chains, seed, say), to)


ToOption = Annotated[Path, typer.Option(help="The folder to write to; an earlier run there is gone on with.")]
NumberOption = Annotated[int, typer.Option(min=0, help="Examples wanted.")]
SeedOption = Annotated[int, typer.Option(help="The same seed selects the same.")]
ShortestOption = Annotated[int, typer.Option(min=1, help="Characters an answer must have.")]
LongestOption = Annotated[int, typer.Option(min=1, help="Characters an answer may have.")]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE", help="A rule that is to drop nothing; may be given several times."),
]
ExplainOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Write nothing; say why this row stayed or went.")
]


def _bounds(shortest: int, longest: int, without: list[str] | None) -> "Bounds":
    from train.data.curate.row_rules import SWITCHED, Bounds

    unknown = sorted(set(without or ()) - set(SWITCHED))
    if unknown:
        raise ThousandError(f"--without {', '.join(unknown)}: no such rule; there are {', '.join(SWITCHED)}.")
    if shortest > longest:
        raise ThousandError(f"--shortest {shortest} is more than --longest {longest}, so no answer would be left.")
    return Bounds(shortest, longest, tuple(sorted(set(without or ()))))


def _curate_rows(
    kind: "Kind", files: list[Path], to: Path, number: int, chains: int, seed: int, explain: str | None
) -> None:
    from train.data.curate import rows_run

    if explain is not None:
        _print(rows_run.explain(kind, files, to, number, seed, explain, say))
        return
    _tell(rows_run.curate(kind, files, to, number, chains, seed, say), to)


@curate_app.command("table")
def curate_table(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="CSV, JSON lines (both also .gz) or Parquet, of the same columns."),
    ],
    to: ToOption,
    prompt: Annotated[str, typer.Option(metavar="COLUMN", help="Where the prompts stand: questions, titles, tasks.")],
    answer: Annotated[str, typer.Option(metavar="COLUMN", help="Where the answers stand: replies, bodies, stories.")],
    score: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A number; rows with higher ones are preferred.")
    ] = None,
    identifier: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="No two the same; by default file and line.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Each gives its share; by default each file is one.")
    ] = None,
    author: Annotated[str | None, typer.Option(metavar="COLUMN", help="Kept with the example.")] = None,
    license: Annotated[str | None, typer.Option(metavar="COLUMN", help="Kept with the example; SPDX.")] = None,
    url: Annotated[str | None, typer.Option(metavar="COLUMN", help="Kept with the example.")] = None,
    number: NumberOption = 200,
    min_score: Annotated[float | None, typer.Option(help="Rows with a lower score are dropped.")] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Prompts and answers are HTML, not Markdown or plain text.")
    ] = False,
    shortest: ShortestOption = 200,
    longest: LongestOption = 4096,
    without: WithoutOption = None,
    seed: SeedOption = 0,
    explain: ExplainOption = None,
) -> None:
    """Select rows of a table: a help desk, a wiki, posts and their replies; exit status 3 when rows were skipped."""
    from train.data.curate.items import Kind
    from train.data.curate.row_rules import RULES
    from train.data.curate.table import CHANGES, Columns, Reading

    if min_score is not None and score is None:
        raise ThousandError("--min-score needs --score, the column in which the scores stand.")
    columns = Columns(prompt, answer, score, identifier, group, author, license, url)
    judge = Reading(columns, _bounds(shortest, longest, without), min_score, html)
    kind = Kind("table", columns.wanted, judge, RULES, CHANGES)
    _curate_rows(kind, files, to, number, 0, seed, explain)


@curate_app.command("openassistant")
def curate_openassistant(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="The published .jsonl, .jsonl.gz or .parquet, of trees or of messages."),
    ],
    to: ToOption,
    language: Annotated[str, typer.Option(help="As in the field lang; the rules on wording read English.")] = "en",
    number: NumberOption = 200,
    chains: Annotated[int, typer.Option(min=0, help="Longer dialogues wanted, for a person to edit.")] = 20,
    shortest: ShortestOption = 200,
    longest: LongestOption = 4096,
    without: WithoutOption = None,
    seed: SeedOption = 0,
    explain: ExplainOption = None,
) -> None:
    """Select the best-ranked answers of OpenAssistant's message trees; exit status 3 when lines were skipped."""
    from train.data.curate.items import Kind
    from train.data.curate.message_trees import CHANGES, RULES, WANTED, Trees, of_one_tree
    from train.data.curate.row_rules import RULES as ROW_RULES

    judge = Trees(_bounds(shortest, longest, without), language)
    kind = Kind("openassistant", WANTED, judge, {**RULES, **ROW_RULES}, CHANGES, whole=True, joined=of_one_tree)
    _curate_rows(kind, files, to, number, chains, seed, explain)
