"""`thousand retrain` and what stands below it: one short function per verb."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.cli_train import DevOption, SetOption
from assistant.console import bar, minutes, out, say
from assistant.errors import ThousandError

if TYPE_CHECKING:
    from evaluation.sets import SetName
    from train.retrain.plan import Plan
    from train.retrain.state import State

retrain_app = typer.Typer()
SHOWN = 20
"""New dialogues that are shown one by one."""


@retrain_app.callback(
    invoke_without_command=True,
    help="Train the current release anew with the dialogues that are new since, and compare the two.",
)
def retrain(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Begin without asking.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew in place of going on with an interrupted one.")
    ] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="A .jsonl file or a folder of them; may be given several times. By default what the current release was trained "
            "on; the kept dialogues come to it in any case."
        ),
    ] = None,
    set_: SetOption = None,
    dev: DevOption = None,
    conversations: Annotated[
        Path | None,
        typer.Option(help="A .jsonl file of scripted conversations to compare on; by default those that come along."),
    ] = None,
    safety: Annotated[
        Path | None,
        typer.Option(help="A .jsonl file of safety prompts to compare on; by default those that come along."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The new release's name; by default the time.")] = None,
) -> None:
    """Say what is new, train from the base on the whole set, and compare the candidate with the current release."""
    if context.invoked_subcommand is not None:
        return
    from train.retrain.state import alone, read_state, unfinished

    given: dict[SetName, Path | None] = {"dev": dev, "conversations": conversations, "safety": safety}
    prompts = {of: file for of, file in given.items() if file is not None}
    with alone():
        last = read_state()
        if last is None or fresh or not unfinished(last):
            state = _begun(data, set_ or [], prompts, name, yes, last)
            if state is not None:
                _work(state, [])
        elif data or prompts or name:
            raise ThousandError(
                f"{last.run} was interrupted: go on with it by `thousand retrain` alone, or begin anew with --fresh."
            )
        else:
            _work(last, set_ or [])


def _begun(
    data: list[Path] | None,
    changes: list[str],
    prompts: "dict[SetName, Path]",
    name: str | None,
    yes: bool,
    last: "State | None",
) -> "State | None":
    """A new retraining, if the person agrees; an interrupted one is forgotten for it."""
    from train.retrain.plan import make_plan, timed
    from train.retrain.state import unfinished

    plan = make_plan(data, changes, say)
    _show_news(plan)
    if not plan.news.any and not changes:
        raise ThousandError(
            f"Nothing is new since {plan.current.name}: keep dialogues first (on the chat page, or see: thousand data --help), or change "
            "a number of its recipe with --set."
        )
    if not yes:
        if not sys.stdin.isatty():
            raise ThousandError("There is no terminal to ask on, so nothing was begun; agree with --yes.")
        plan = timed(plan, say)
    out.print(plan.estimate.sentence, highlight=False, soft_wrap=True)
    if not yes and not typer.confirm("Begin?"):
        out.print("Nothing was begun.")
        return None
    from train.retrain.work import begin, forget  # which takes seconds to load, and nobody waits for that to be asked

    if last is not None and unfinished(last):
        forget(last)
    return begin(plan, name, prompts, say)


def _show_news(plan: "Plan") -> None:
    news = plan.news
    out.print(f"Since {news.against}: {news.counts}", highlight=False)
    if not news.known:
        out.print(f"(What {news.against} was trained on was not kept, so every dialogue counts as added.)", style="dim")
    marked = [("+", dialogue) for dialogue in news.added] + [("~", dialogue) for dialogue in news.changed]
    for mark, dialogue in marked[:SHOWN] if news.known else []:
        question = next(message.content for message in dialogue.messages if message.role == "user")
        out.print(
            f" {mark} {dialogue.id or 'without an id'}: {_short(question)} → {_short(dialogue.answers[-1])}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for gone in news.removed[:SHOWN]:
        out.print(f" - {gone.id or gone.fingerprint}", highlight=False, markup=False, soft_wrap=True)
    hidden = sum(max(0, len(shown) - SHOWN) for shown in (marked, news.removed)) if news.known else 0
    if hidden:
        out.print(f"   and {hidden} more")


def _short(text: str, most: int = 70) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _work(state: "State", changes: list[str]) -> None:
    from evaluation.compare_page import remarks, table
    from train.retrain.work import work

    # A shell may have started this with Ctrl-C ignored, and `thousand retrain cancel` goes the same way.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    say(f"{state.run}; Ctrl-C saves and stops, and so does, from elsewhere: thousand retrain cancel")
    with bar(state.run) as advance:

        def report(done: int, total: int, beside: str, seconds_left: float | None) -> None:
            left = "" if seconds_left is None else f"  {minutes(seconds_left)} left"
            advance(done, total, beside + left)

        verdict = work(state, changes, say, report)
    out.print(table(verdict.comparison))
    for remark in remarks(verdict.comparison):
        out.print(remark, highlight=False, markup=False, soft_wrap=True)
    out.print(verdict.sentence, highlight=False, soft_wrap=True)
    out.print(verdict.next_step, highlight=False, soft_wrap=True)


@retrain_app.command()
def status() -> None:
    """How the retraining stands: the one under way, or the last one."""
    from train.retrain.state import standing

    found = standing()
    out.print(found.sentence, highlight=False, soft_wrap=True)
    if found.running and found.state is not None and found.state.seconds_left is not None:
        out.print(f"About {minutes(found.state.seconds_left)} left of {found.state.phase}.", highlight=False)


@retrain_app.command()
def cancel() -> None:
    """Have the retraining under way save and stop; `thousand retrain` goes on with it."""
    from train.retrain.state import ask_to_stop

    state = ask_to_stop()
    out.print(
        f"{state.run} saves and stops after what it is at. Go on with: thousand retrain; give it up with: thousand retrain --fresh",
        highlight=False,
        soft_wrap=True,
    )
