"""`thousand releases ...`: one short function per verb."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from assistant.console import merging, out, say

releases_app = typer.Typer(help="The releases on this machine, and which one chats.", no_args_is_help=True)


@releases_app.command("list")
def releases_list() -> None:
    """All releases; a star marks the one that chats."""
    from assistant import release

    release.install_bundled(say)
    names = release.names()
    current = release.current_or_none()
    table = Table("", "name", "made", "base", "dialogues", "recipe", "stops", box=None)
    for name in names:
        record = release.read(release.path(name))
        stops = record.scores.get("dev", {}).get("stopped", {}).get("mean")
        dialogues = sum(file.dialogues for file in record.data)
        table.add_row(
            "*" if name == current else "",
            name,
            f"{record.created:%Y-%m-%d %H:%M}",
            record.base,
            str(dialogues),
            record.recipe["preset"],
            "" if stops is None else f"{stops:.0%}",
        )
    out.print(table)
    if not names:
        out.print("There is no release yet; make one with: thousand train")


@releases_app.command("show")
def releases_show(
    name: Annotated[str | None, typer.Argument(help="A release; the current one by default.")] = None,
) -> None:
    """Everything that is known of a release."""
    from assistant import release

    place = release.path(release.current(say) if name is None else name, say)
    written = (place / release.REPORT).exists()
    report = f"its report is {release.REPORT}" if written else f"no report yet: thousand evaluate report {place.name}"
    out.print(f"in {place}; {report}", style="dim", markup=False, highlight=False, soft_wrap=True)
    out.print_json(release.read(place).model_dump_json())


@releases_app.command("promote")
def releases_promote(
    name: str,
    override: Annotated[
        str | None,
        typer.Option(
            metavar="WHY", help="Promote a retrained release that is worse all the same; why is kept in its record."
        ),
    ] = None,
) -> None:
    """Make a release the one that chats."""
    from assistant import release

    before = release.promote(name, override)
    out.print(
        f"{name} is current" + (f"; it replaces {before}. Back with: thousand releases rollback" if before else "."),
        highlight=False,
    )


@releases_app.command("rollback")
def releases_rollback() -> None:
    """Go back to the release that chatted before."""
    from assistant import release

    out.print(f"{release.rollback()} is current again.", highlight=False)


@releases_app.command("export")
def releases_export(
    name: Annotated[str, typer.Argument(help="A release.")],
    folder: Annotated[Path, typer.Argument(help="A new folder to write it to.")],
    to: Annotated[
        Literal["peft", "safetensors", "gguf", "ollama"],
        typer.Option(
            help="peft: the adapter; safetensors: the whole model for transformers; gguf: one file for llama.cpp; "
            "ollama: that with a Modelfile."
        ),
    ],
) -> None:
    """Write a release for other programs."""
    from train.export import export

    export(name, folder, to, say, merging)
    out.print(f"{name} is in {folder}", highlight=False, soft_wrap=True)
    if to == "ollama":
        out.print(f"Next:  ollama create {name} -f {folder / 'Modelfile'}", highlight=False, soft_wrap=True)
