"""Voting in the terminal, with one key a vote."""

import typer
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from assistant.console import visible
from evaluation.voting.ballot import Ballot

BACK, STOP = "0", "q"


def _show(ballot: Ballot, place: int, out: Console) -> None:
    item = ballot.shown(place)
    out.print(Rule(f"{place + 1} of {len(ballot)}"))
    titles = ("A", "B") if len(item.answers) == 2 else ("answer",)
    for title, text in (("system", item.system), ("asked", item.user), *zip(titles, item.answers, strict=True)):
        if text is not None:
            out.print(Text(title, style="bold"))
            out.print(Text((visible(text).strip() or "(nothing)") + "\n"), soft_wrap=False)
    out.print(ballot.scale.question, style="bold", highlight=False)
    for key, choice in enumerate(ballot.scale.choices, start=1):
        out.print(Text(f"  {key}  {choice.label}"))
    out.print(Text(f"  {BACK}  back to the one before     {STOP}  stop, and go on later", style="dim"))


def _key(known: str) -> str:
    """One of these keys; who closes the terminal or presses Ctrl-C stops."""
    while True:
        try:
            key = typer.getchar().lower()
        except (EOFError, KeyboardInterrupt):
            return STOP
        if key in known:
            return key


def vote_in_terminal(ballot: Ballot, out: Console) -> None:
    """Show what has no vote yet, one by one, until all have one or the person stops. Each vote is on the disk at once."""
    words = ballot.scale.words
    keys = "".join(str(key) for key in range(1, len(words) + 1))
    while (place := ballot.next()) is not None:
        _show(ballot, place, out)
        key = _key(keys + BACK + STOP)
        if key == STOP:
            return
        if key != BACK:
            ballot.vote(place, words[int(key) - 1])
        elif place > 0:
            ballot.vote(place - 1, None)
