"""The `thousand` command: one short function per verb; the work is done elsewhere."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from assistant.base_model import EMBEDDED
from assistant.errors import ThousandError, validation_sentence
from assistant.files import write_text

DEV_MAX_TOKENS = 256

app = typer.Typer(
    help="A chat assistant from a thousand examples: fine-tune a base model, chat with it, serve it, retrain it on your dialogues.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
releases_app = typer.Typer(help="The releases on this machine, and which one chats.", no_args_is_help=True)
data_app = typer.Typer(help="Training data.", no_args_is_help=True)
evaluate_app = typer.Typer(help="Judge what a model says.", no_args_is_help=True)
app.add_typer(releases_app, name="releases")
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")

out = Console()
err = Console(stderr=True)

EngineOption = Annotated[
    Literal["auto", "llama.cpp", "transformers"], typer.Option(help="What runs the model; auto is llama.cpp on a CPU.")
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


def _say(line: str) -> None:
    err.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _bar(label: str) -> Iterator[Advance]:
    """A progress bar with time left; yields a function of (done, total, what stands beside the bar).

    Where there is no terminal it prints about twenty lines in all.
    """
    if err.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[beside]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err) as progress:
            task = progress.add_task(label, total=None, beside="")
            yield lambda done, total, beside: progress.update(task, completed=done, total=total, beside=beside)
        return

    def line(done: int, total: int, beside: str) -> None:
        if done % max(1, total // 20) == 0 or done == total:
            _say(f"{label} {done}/{total} {beside}".rstrip())

    yield line


def _merging(done: int, total: int) -> None:
    if done in (total // 2, total):
        _say(f"merged {done} of {total} tensors")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


@app.command()
def train(
    data: DataOption = None,
    base: Annotated[
        str | None,
        typer.Option(help="A base model: a folder, a .gguf file or a hub id; by default the one that comes along."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="laptop (the default), lima, or lima-small (the paper's numbers for big and smaller models)."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change a number of the recipe; may be given several times."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The new release's name; by default the recipe and the time.")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")] = None,
) -> None:
    """Fine-tune a base model on dialogues; the result is a new release."""
    from assistant import base_model
    from assistant.dialogue import data_files, read_dialogues
    from assistant.settings import bundled
    from train.fit import fit
    from train.make_release import make_release
    from train.recipe import changed, preset
    from train.run import default_name, new_run, open_run
    from train.watch import Step

    if resume is not None:
        if data or base or recipe or set_ or name:
            raise ThousandError("--resume goes on with a run as it was begun; give no other option with it.")
        run = open_run(resume)
        found = base_model.resolve(run.base, _say)
    else:
        chosen = changed(preset(recipe or "laptop"), set_ or [])
        files = data_files(data or [bundled("dialogues")])
        read_dialogues(files)
        found = base_model.resolve(base_model.EMBEDDED if base is None else base, _say)
        run = new_run(default_name(chosen.preset) if name is None else name, found, chosen, files)
    _say(f"Run {run.name}, in {run.folder}; Ctrl-C saves and stops")
    with _bar("training") as bar:

        def report(step: Step) -> None:
            speed = f"{step.tokens_per_second:.0f} tokens/s, {step.supervised:.0%} supervised"
            bar(step.step, step.steps, f"loss {step.loss:.3f}  {speed}  {_minutes(step.seconds_left)} left")

        fitted = fit(run, found, report, _say)
    release = make_release(fitted)
    measured = release.training
    out.print(
        f"Release {release.name}: {measured['steps']:.0f} steps in {_minutes(measured['seconds'])}, "
        f"{measured['tokens_per_second']:.0f} tokens/s, last loss {measured['last_loss']:.3f}"
    )
    out.print(f"Look at its answers:  thousand evaluate dev --release {release.name}", highlight=False)
    out.print(f"Make it the one that chats:  thousand releases promote {release.name}", highlight=False)


@app.command()
def chat(
    release: ReleaseOption = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 always takes the likeliest token.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="1 is none.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    engine: EngineOption = "auto",
    context: ContextOption = 4096,
) -> None:
    """Chat in the terminal."""
    from assistant.sampling import Sampling
    from serve.start import open_chat
    from serve.terminal import chat_in_terminal

    asked = {
        "temperature": temperature,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    given = {key: value for key, value in asked.items() if value is not None}
    Sampling.model_validate(given)
    opened = open_chat(release, engine=engine, context=context, say=_say, progress=_merging)
    chat_in_terminal(opened, Sampling.model_validate({**opened.sampling.model_dump(), **given}), system, out)


@app.command()
def serve(
    release: ReleaseOption = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; any but this machine's own needs THOUSAND_API_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    page: Annotated[bool, typer.Option(help="Serve the chat page at / beside the endpoint.")] = True,
    engine: EngineOption = "auto",
    context: ContextOption = 4096,
) -> None:
    """Serve the chat page and the OpenAI-compatible endpoint."""
    from assistant.settings import settings
    from serve import start

    key = settings().api_key
    listener = start.listen(host, port, key)
    opened = start.open_chat(release, engine=engine, context=context, say=_say, progress=_merging)
    shown = f"[{host}]" if ":" in host else host
    out.print(f"Serving {opened.name} with {opened.engine.name}; Ctrl-C stops", highlight=False)
    if page:
        out.print(f"Chat page  http://{shown}:{port}/", highlight=False)
    out.print(f"Endpoint   http://{shown}:{port}/v1/chat/completions", highlight=False)
    start.serve(opened, listener, key, page=page)


@releases_app.command("list")
def releases_list() -> None:
    """All releases; a star marks the one that chats."""
    from assistant import release

    release.install_bundled(_say)
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

    place = release.path(release.current(_say) if name is None else name, _say)
    out.print(f"in {place}", style="dim", highlight=False, soft_wrap=True)
    out.print_json(release.read(place).model_dump_json())


@releases_app.command("promote")
def releases_promote(name: str) -> None:
    """Make a release the one that chats."""
    from assistant import release

    before = release.promote(name)
    out.print(
        f"{name} is current" + (f"; it replaces {before}. Back with: thousand releases rollback" if before else "."),
        highlight=False,
    )


@releases_app.command("rollback")
def releases_rollback() -> None:
    """Go back to the release that chatted before."""
    from assistant import release

    out.print(f"{release.rollback()} is current again.", highlight=False)


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
    out.print(show(dialogue, Template.load(base_model.resolve(base, _say).folder)))


@evaluate_app.command("dev")
def evaluate_dev(
    release: ReleaseOption = None,
    base: Annotated[bool, typer.Option(help="Also ask the plain base model, side by side.")] = False,
    prompts: Annotated[
        Path | None, typer.Option(help="A .jsonl file of single-turn prompts; by default the dev set that comes along.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write every answer to this Markdown file.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Instead of the release's own.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Instead of the release's own.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = DEV_MAX_TOKENS,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    engine: EngineOption = "auto",
) -> None:
    """Answer the dev prompts and say what a program can tell of the answers."""
    from assistant.sampling import Sampling
    from evaluation import dev
    from serve.start import open_base_chat, open_chat

    asked = dev.read_prompts(prompts)
    changes = {"repetition_penalty": repetition_penalty, "temperature": temperature}
    given = {key: value for key, value in changes.items() if value is not None}
    Sampling.model_validate({**given, "max_tokens": max_tokens, "seed": seed})
    opened = open_chat(release, engine=engine, context=4096, say=_say, progress=_merging)
    sampling = Sampling.model_validate(
        {**opened.sampling.model_dump(), **given, "max_tokens": max_tokens, "seed": seed}
    )
    chats = {opened.name: opened}
    if base and opened.record:
        plain = open_base_chat(opened.record.base, engine=engine, context=4096, say=_say)
        chats[f"base model {Path(plain.name).name}"] = plain
    systems: dev.Systems = {}
    for name, system in chats.items():
        with _bar(name) as bar:
            answers = dev.answers_of(system, asked, sampling, lambda done: bar(done, len(asked), ""))
        systems[name] = (answers, dev.score(answers))
    out.print(dev.table(systems))
    if page:
        write_text(page, dev.markdown(systems, sampling))
    as_by_default = not given and prompts is None and (max_tokens, seed, engine) == (DEV_MAX_TOKENS, 0, "auto")
    if as_by_default:
        dev.record(opened, systems[opened.name][1], sampling)


def _quieten() -> None:
    """Libraries loaded later say nothing of their own, and call nobody."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft|torch")


def main() -> None:
    """Run the command; what a person can mend is one sentence on standard error and status 1."""
    from assistant.base_model import disk_error
    from assistant.settings import settings

    _quieten()
    try:
        app()
    except ThousandError as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    except ValidationError as error:
        err.print(
            f"Invalid value: {validation_sentence(error)}", style="red", markup=False, highlight=False, soft_wrap=True
        )
    except OSError as error:
        err.print(str(disk_error(error, settings().home)), style="red", markup=False, highlight=False, soft_wrap=True)
    else:
        return
    sys.exit(1)
