"""`thousand train` and what stands below it: one short function per verb."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.console import DataOption, bar, minutes, out, say
from assistant.errors import ThousandError

if TYPE_CHECKING:
    from train.run import Run

train_app = typer.Typer()

BaseOption = Annotated[
    str | None,
    typer.Option(help="A base model: a folder, a .gguf file or a hub id; by default the one that comes along."),
]
DevOption = Annotated[
    Path | None,
    typer.Option(
        help="A .jsonl file of single-turn prompts with references, by whose answers checkpoints are chosen; "
        "by default the 50 that come along."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a number of the recipe; may be given several times."),
]


@train_app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    data: DataOption = None,
    base: BaseOption = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="laptop (the default), lima, or lima-small (the paper's numbers for big and smaller models)."
        ),
    ] = None,
    method: Annotated[
        Literal["lora", "full"] | None, typer.Option(help="Train a LoRA adapter (the default), or all weights.")
    ] = None,
    set_: SetOption = None,
    dev: DevOption = None,
    name: Annotated[
        str | None, typer.Option(help="The new release's name; by default the recipe and the time.")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")] = None,
) -> None:
    """Fine-tune a base model on dialogues; the result is a new release."""
    from train import processes

    given = any(option not in (None, []) for option in (data, base, recipe, method, dev, name))
    if context.invoked_subcommand is not None:
        if given or resume is not None or set_:
            raise ThousandError(f"Give the options of `thousand train {context.invoked_subcommand}` behind its name.")
        return
    if resume is not None and given:
        raise ThousandError(
            "--resume goes on with a run as it was begun; only --set tokens_per_micro_batch may stand with it."
        )
    changes = [*(set_ or []), *([f"method={method}"] if method else [])]

    def begin() -> str:
        from assistant.dialogue import data_files
        from assistant.settings import bundled
        from train.recipe import changed, preset
        from train.run import begin_run, resume_run

        if resume is not None:
            return resume_run(resume, changes).name
        chosen = changed(preset("laptop" if recipe is None else recipe), changes)
        return begin_run(name, base, chosen, data_files(data or [bundled("dialogues")]), dev, say).name

    with processes.together():
        run_to_release(processes.from_first(begin))


def run_to_release(name: str) -> None:
    """Train the run of that name to its end, choose its best checkpoint, and make it a release."""
    from train.run import read_run

    run = read_run(name)
    say(f"Run {run.name}, in {run.folder}; Ctrl-C saves and stops")
    _train_and_release(run)


def _train_and_release(run: "Run") -> None:
    from train.choice_report import agreement, table
    from train.make_release import make_release
    from train.session import train_and_choose
    from train.watch import Step

    with bar("training") as advance:

        def report(step: Step) -> None:
            speed = f"{step.tokens_per_second:.0f} tokens/s, {step.supervised:.0%} supervised"
            advance(step.step, step.steps, f"loss {step.loss:.3f}  {speed}  {minutes(step.seconds_left)} left")

        chosen = train_and_choose(run, report, say)
    if chosen is None:
        return
    release = make_release(chosen)
    measured = release.training
    out.print(table(chosen.candidates))
    out.print(agreement(chosen.candidates), highlight=False)
    out.print(
        f"Release {release.name}: step {release.chosen_step} of {measured['steps']:.0f}, trained in "
        f"{minutes(measured['seconds'])} at {measured['tokens_per_second']:.0f} tokens/s"
    )
    from assistant.release import path

    out.print(f"Its curves:  {path(release.name) / 'training.png'}", highlight=False, soft_wrap=True)
    out.print(f"Look at its answers:  thousand evaluate dev --release {release.name}", highlight=False)
    out.print(f"Make it the one that chats:  thousand releases promote {release.name}", highlight=False)


@train_app.command()
def sweep(
    grid: Annotated[Path, typer.Argument(help="A TOML file; see docs/training.md.", exists=True, dir_okay=False)],
    name: Annotated[str | None, typer.Option(help="The sweep's name; by default the file's.")] = None,
) -> None:
    """Compare recipes by what their models say; begun again, it goes on where it was."""
    from train.grid import open_sweep
    from train.sweep import run_sweep
    from train.sweep_report import best_command, table, told_apart
    from train.watch import Step

    opened = open_sweep(grid, name, say)
    with bar(opened.name) as advance:

        def report(arm: str, step: Step) -> None:
            advance(
                step.step, step.steps, f"{arm} loss {step.loss:.3f}  {minutes(step.seconds_left)} to this arm's end"
            )

        results = run_sweep(opened, report, say)
    out.print(table(results))
    out.print(told_apart(results), highlight=False)
    hours = sum(result.cpu_seconds for result in results) / 3600
    out.print(f"{len(opened.arms)} arms, {hours:.2f} CPU-hours; every result: {opened.results_file}", highlight=False)
    out.print(f"Train a release by the best of them:  {best_command(opened, results)}", highlight=False, soft_wrap=True)
