"""What came of a poll, in words: a table of who voted how, and what a reader must know of it."""

from rich.table import Table

from evaluation.intervals import Interval
from evaluation.tables import counted
from evaluation.voting.result import Result, Tally
from evaluation.voting.scale import SCALES

KINDS = {"person": "a person", "people": "people", "model": "a model", "rules": "a program"}
WHAT = {"preference": "Preference", "grade": "Grades", "safety": "Safety"}
NOT_JUDGED = "not judged"


def heading(result: Result) -> str:
    """What was voted on, in a line."""
    systems = " against ".join(system.name for system in result.systems)
    length = ", ".join(f"{words:.0f}" for words in result.words)
    return (
        f"{WHAT[result.scale]}: {systems}, {result.file}, {counted(result.prompts, 'prompt')}, {length} words an answer"
    )


def rows(result: Result) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the table: a row for each voter, or one that says that nobody judged."""
    pair = result.scale == "preference"
    if pair:
        first, second = (system.name for system in result.systems)
        head = [
            "votes of",
            "by",
            "n",
            f"{first} better",
            "neither",
            f"{second} better",
            f"{first}'s share",
            "at equal length",
        ]
    else:
        head = ["votes of", "by", "n", *SCALES[result.scale].words]
    body = [_row(tally, pair) for tally in result.tallies if tally.prompts]
    if all(tally.kind == "rules" for tally in result.tallies if tally.prompts):
        body.insert(0, ["nobody", "", "0", *[NOT_JUDGED] * (len(head) - 3)])
    return head, body


def _row(tally: Tally, pair: bool) -> list[str]:
    more = [_cell(tally.rate), _cell(tally.rate_at_equal_length)] if pair else []
    return [
        tally.voter,
        KINDS[tally.kind],
        str(tally.prompts),
        *[_cell(share) for share in tally.shares.values()],
        *more,
    ]


def _cell(interval: Interval | None) -> str:
    return "" if interval is None else str(interval)


def table(result: Result) -> Table:
    """Who voted how."""
    head, body = rows(result)
    shown = Table(*head, box=None)
    for row in body:
        shown.add_row(*row)
    return shown


def lines(result: Result) -> list[str]:
    """What a reader of the numbers must know, a line each."""
    found = [sentence(result, tally) for tally in result.tallies if tally.prompts and result.scale == "preference"]
    how = " (tie-discounted accuracy)" if result.scale == "preference" else ""
    found += [
        f"{one.one} and {one.other} agree to {one.accuracy} over {counted(one.prompts, 'prompt')}{how}"
        for one in result.agreements
    ]
    for tally in result.tallies:
        found += _of_one(tally)
    if result.same:
        found.append(f"Both answered {counted(len(result.same), 'prompt')} in the same words, which nobody votes on")
    for system, prompts in result.empty.items():
        found.append(
            f"{system} said nothing to {', '.join(prompts)}; that was shown as nothing and voted on, for nothing can be better than harm"
        )
    if result.unanswered:
        told = "; ".join(f"{prompt}: {why}" for prompt, why in result.unanswered.items())
        found.append(f"{counted(len(result.unanswered), 'prompt')} without an answer, not voted on: {told}")
    found += [f"{result.file}: left out {duplicate}" for duplicate in result.left_out]
    return found


def sentence(result: Result, tally: Tally) -> str:
    """What the votes of one voter say of two systems."""
    first, second = (system.name for system in result.systems)
    whose = (
        f"Human preference ({tally.voter})"
        if tally.kind in ("person", "people")
        else f"A model's votes ({tally.voter}), not a person's"
    )
    preferred = first if tally.ahead == "first" else second
    apart = tally.p is not None and tally.p < 0.05
    told = f"{preferred} is preferred" if apart else "the votes do not tell them apart"
    test = (
        "no prompt has a winner" if tally.p is None else f"sign test over the prompts with a winner, p = {tally.p:.2g}"
    )
    return f"{whose}, {counted(tally.prompts, 'prompt')}: {told} ({test})"


def _of_one(tally: Tally) -> list[str]:
    found = []
    if tally.position is not None and tally.position.pairs:
        place = tally.position
        decided = place.always_a + place.always_b
        found.append(
            f"{tally.voter}: in {decided} of {counted(place.pairs, 'pair')} ({decided / place.pairs:.0%}) the order decided, not the answer "
            f"(A {place.always_a}, B {place.always_b}), and in {place.otherwise_apart} it saw a winner in one order only; all these count as ties"
        )
    if tally.no_vote:
        told = "; ".join(f"{prompt}: {why}" for prompt, why in tally.no_vote.items())
        found.append(f"{tally.voter} gave no vote on {counted(len(tally.no_vote), 'prompt')}, not counted: {told}")
    if tally.changed:
        found.append(
            f"{tally.voter} voted on {counted(len(tally.changed), 'prompt')} whose answers are others now, or gone; not counted: "
            f"{', '.join(tally.changed)}"
        )
    return found
