"""`thousand data curate ...`: one short function per verb; the work is done in train/data/curate/."""

from pathlib import Path
from typing import Annotated

import typer

from assistant.console import out, say, warn

curate_app = typer.Typer(help="Make a few good examples of many raw texts.", no_args_is_help=True)


@curate_app.callback()
def _curate() -> None:
    """Make a few good examples of many raw texts."""


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

    sites = stackexchange.sites_of(dump, say)
    if explain is not None:
        databases = stackexchange.stage(sites, to, say)
        choice = choose(databases, {"stem": stem, "other": other}, seed, say)
        for line in explained(databases, choice, explain):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    done = stackexchange.curate(sites, to, {"stem": stem, "other": other}, chains, seed, say)
    for problem in done.problems:
        warn(problem)
    out.print(stackexchange.funnel_table(done))
    out.print()
    out.print(stackexchange.sites_table(done))
    out.print()
    chosen = len(done.choice.chosen)
    written = f"{chosen} examples are in {to / stackexchange.SELECTED}" if chosen else "nothing was left to select"
    more = f"; {done.chains} chains to edit are in {to / stackexchange.CHAINS}" if done.chains else ""
    out.print(f"{written}{more}", markup=False, highlight=False, soft_wrap=True)
    if done.skipped:
        warn(f"{done.skipped:,} rows or tables were skipped, {len(done.problems)} of them are told above")
        raise typer.Exit(3)
