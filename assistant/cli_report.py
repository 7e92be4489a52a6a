"""`thousand evaluate report`."""

from pathlib import Path
from typing import Annotated

import typer

from assistant.console import out, say

report_app = typer.Typer()


@report_app.command("report")
def evaluate_report(
    name: Annotated[
        str | None, typer.Argument(metavar="RELEASE", help="A release; the current one by default.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Write it here, and not into the release's own folder.")
    ] = None,
) -> None:
    """Write one page on a release: lineage, every score with its interval, answers good and bad, what was not measured."""
    from assistant import release
    from evaluation.report import report

    page = report.write(release.current(say) if name is None else name, folder)
    out.print(f"{page}, and {report.TEXT} beside it", markup=False, highlight=False, soft_wrap=True)
