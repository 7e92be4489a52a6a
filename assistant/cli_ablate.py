"""`thousand evaluate ablate`: what quality, diversity and quantity of the data, and the chains, are worth."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli_train import BaseOption, DevOption, SetOption
from assistant.console import DataOption, EngineOption, bar, minutes, out, say

if TYPE_CHECKING:
    from evaluation.sets import SetName
    from train.ablate.plan import Plan


def evaluate_ablate(
    kind: Annotated[
        Literal["quality", "diversity", "quantity", "chains"],
        typer.Argument(
            help="quality: answers as written against degraded ones. diversity: prompts of one group against those of all. "
            "quantity: 62 to 1,000 examples. chains: without the dialogue chains and with them."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="By default as the kind; one that was stopped goes on.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would be trained, and how long it takes.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each arm.")] = 1,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Optimizer steps of every arm, 64 by default; of `chains` the recipe's epochs. For equal epochs: --set epochs=2.",
        ),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Single-turn examples in an arm, of `chains` chains; for `quantity` and `chains` several times. By default all, halved "
            "four times, without and with all chains, and 200 for `diversity`.",
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="For `diversity`: whose prompts are the homogeneous ones (howto); several times for several."
        ),
    ] = None,
    data: DataOption = None,
    base: BaseOption = None,
    recipe: Annotated[str, typer.Option(help="laptop, lima, or lima-small.")] = "laptop",
    set_: SetOption = None,
    dev: DevOption = None,
    conversations: Annotated[
        Path | None, typer.Option(help="A .jsonl file of scripted conversations; by default the 40 that come along.")
    ] = None,
    constraints: Annotated[
        Path | None, typer.Option(help="A .jsonl file of prompts with checks; by default the 100 that come along.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    engine: EngineOption = "auto",
) -> None:
    """Train the same recipe on variants of the data, ask each, and say how far apart they are; begun again, it goes on."""
    from train.ablate.plan import Asked, make_plan

    asked = Asked(
        kind=kind,
        sizes=tuple(size or ()),
        groups=tuple(group or ("howto",)),
        recipe=recipe,
        changes=tuple(set_ or ()),
        steps=steps,
        max_tokens=max_tokens,
        engine=engine,
    )
    given: dict[SetName, Path | None] = {"conversations": conversations, "constraints": constraints}
    prompts = {of: file for of, file in given.items() if file is not None}
    planned = make_plan(name, asked, seeds=seeds, base=base, data=data or (), dev=dev, prompts=prompts, say=say)
    _show(planned)
    if not plan:
        _work(planned)


def _show(plan: "Plan") -> None:
    out.print(f"{plan.name}: {plan.budget}; the others are compared with {plan.reference}", highlight=False)
    for training in plan.trainings:
        out.print(f"  {training.label}: {training.arm.what} ({plan.state(training)})", highlight=False, markup=False)
    out.print(plan.cost, highlight=False, soft_wrap=True)


def _work(plan: "Plan") -> None:
    from evaluation.ablation_page import remarks, table
    from train.ablate.work import work

    # A shell may have started this with Ctrl-C ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    say("Ctrl-C saves and stops")
    with bar(plan.name) as advance:

        def report(done: int, total: int, beside: str, seconds_left: float | None) -> None:
            left = "" if seconds_left is None else f"  {minutes(seconds_left)} left"
            advance(done, total, beside + left)

        record = work(plan, report, say)
    out.print(table(record))
    for remark in remarks(record):
        out.print(remark, highlight=False, markup=False, soft_wrap=True)
    out.print(f"Page, picture and record: {plan.place}", highlight=False, soft_wrap=True)
