"""What the commands share: where they print, progress bars, and options that several take."""

import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Rich takes 80 columns where there is no terminal, too few for a table.
_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
out = Console(emoji=False, width=_WIDTH)  # else ":100:" of "file:100: ..." becomes a picture
err = Console(stderr=True, emoji=False)

EngineOption = Annotated[
    Literal["auto", "llama.cpp", "transformers"], typer.Option(help="What runs the model; auto is llama.cpp on a CPU.")
]
ServingEngineOption = Annotated[
    Literal["auto", "llama.cpp", "transformers", "tgi", "openai"],
    typer.Option(
        help="What runs the model; auto is llama.cpp on a CPU. tgi (text-generation-inference) and openai (vLLM, and others that "
        "are OpenAI-compatible) are servers, at --engine-url."
    ),
]
EngineUrlOption = Annotated[
    str | None,
    typer.Option(
        help="Where that server is, such as http://127.0.0.1:8080 (tgi) or http://127.0.0.1:8000/v1 (openai)."
    ),
]
EngineModelOption = Annotated[
    str | None, typer.Option(help="What it calls the release: TGI's adapter id, or the model or adapter name of vLLM.")
]
Advance = Callable[[int, int, str], None]
ContextOption = Annotated[int, typer.Option(min=64, max=32768, help="Tokens a conversation and its answer may have.")]
ReleaseOption = Annotated[str | None, typer.Option(help="A release by name; the current one by default.")]
DataOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="A .jsonl file or a folder of them; may be given several times. By default the data that comes along."
    ),
]


def _speaks() -> bool:
    """Of several processes the first one."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    if _speaks():
        err.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def warn(line: str) -> None:
    """What a person must see to mend something, though the work goes on."""
    err.print(line, style="bold yellow", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def bar(label: str, begun: int = 0) -> Iterator[Advance]:
    """A progress bar with time left; yields a function of (done, total, what stands beside the bar).

    `begun` is what an earlier run has done already, which says nothing of how fast this one is.

    Where there is no terminal it prints about twenty lines in all.
    """
    if err.is_terminal and _speaks():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[beside]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err) as progress:
            task = progress.add_task(label, total=None, completed=begun, beside="")
            yield lambda done, total, beside: progress.update(task, completed=done, total=total, beside=beside)
        return

    def line(done: int, total: int, beside: str) -> None:
        if done % max(1, total // 20) == 0 or done == total:
            say(f"{label} {done}/{total} {beside}".rstrip())

    yield line


def merging(done: int, total: int) -> None:
    if done in (total // 2, total):
        say(f"wrote {done} of {total} tensors")


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def visible(text: str) -> str:
    """A text without anything that steers a terminal: it may come from strangers."""
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf")
        else f"<U+{ord(character):04X}>"
        for character in text
    )
