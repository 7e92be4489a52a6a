"""Voting in the terminal, with one key a vote."""

import typer
from rich.console import Console
from rich.rule import Rule

from evaluation.blind import Preference, Sample, Vote
from evaluation.tables import counted

KEYS: dict[str, Vote] = {"a": "A", "b": "B", "n": "no difference"}
HELP = "a: A is better   b: B is better   n: no difference   u: back to the one before   q: stop, and go on later"


def _show(sample: Sample, place: int, out: Console) -> None:
    pair = sample.pairs[place]
    out.print(Rule(f"{place + 1} of {len(sample.pairs)}"))
    for label, text in (("system", pair.system), ("asked", pair.user), ("A", pair.a), ("B", pair.b)):
        if text is not None:
            out.print(f"[bold]{label}[/bold]")
            out.print((text.strip() or "(nothing)") + "\n", markup=False, highlight=False)
    out.print(HELP, style="dim", highlight=False)


def vote_in_terminal(sample: Sample, out: Console) -> None:
    """Show the pairs that have no vote yet, one by one, until all have one or the person stops; then what the votes say."""
    while (place := sample.next) is not None:
        _show(sample, place, out)
        key = ""
        while key not in (*KEYS, "u", "q"):
            key = typer.getchar().lower()
        if key == "q":
            voted = len(sample.votes) - sample.votes.count(None)
            out.print(
                f"{voted} of {len(sample.votes)} voted on; go on with: thousand evaluate blind {sample.candidate}"
            )
            return
        if key != "u":
            sample = sample.vote(place, KEYS[key])
        elif place > 0:
            sample = sample.vote(place - 1, None)
    found = sample.result()
    assert found is not None
    out.print(sentence(sample, found), highlight=False, soft_wrap=True)


def sentence(sample: Sample, found: Preference) -> str:
    """What the votes say, in words."""
    apart = found.difference
    told = (
        "the interval holds 0, so the votes do not tell them apart"
        if apart.low <= 0 <= apart.high
        else f"{sample.candidate if apart.mean > 0 else sample.current} is preferred"
    )
    same = f" Both answered {counted(len(sample.same), 'prompt')} in the same words; not shown." if sample.same else ""
    return (
        f"Human preference over {found.votes} pairs: {sample.candidate} better in {found.better}, {sample.current} better in {found.worse}, "
        f"no difference in {found.no_difference}. Better less worse: {apart.mean:+.2f} [{apart.low:+.2f}, {apart.high:+.2f}]; {told}.{same}"
    )
