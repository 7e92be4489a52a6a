"""`thousand data add` and `thousand data review`: dialogues of people's own on their way into the training data."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from assistant.console import out, say


def _me() -> str:
    """Who reviews in a terminal: the user of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "terminal"


def data_review() -> None:
    """Decide, one by one, which of the dialogues that people kept, corrected or added are learnt from.

    Each is shown with what the audit finds, what is near it in the training data, whether it gives away what judges a model, and
    what looks like personal data. Keys: a accepts it into kept.jsonl in THOUSAND_HOME, e edits a message in $EDITOR, r rejects it,
    s leaves it for later, q ends. What is piped in counts as keys.
    """
    from serve.review_terminal import review_in_terminal
    from serve.store import Store

    review_in_terminal(Store(), _me(), out, say)


def data_add(
    file: Annotated[
        Path,
        typer.Argument(help="A .jsonl file or a JSON array, in any format that `thousand data convert` reads."),
    ],
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Accept at once those in which nothing is found; the others wait for review."),
    ] = False,
) -> None:
    """Bring dialogues from elsewhere into the queue of `thousand data review`.

    Each goes through the same gate as people's feedback: the audit, contamination with the held-out sets, personal data. All that
    is found is printed. FILE stays as it is; a line that is no dialogue is reported, the others are added, and the exit status
    is 1. The same dialogue is added once. By adding you say that it may be used to train the assistant.
    """
    from serve.adding import add
    from serve.review_terminal import look_lines
    from serve.store import Store

    added = add(Store(), file, accept_clean=accept, by=_me(), say=say)
    for problem in added.problems:
        out.print(str(problem), markup=False, highlight=False, soft_wrap=True)
    for where, look in added.seen:
        for level, line in look_lines(look):
            if level != "note":
                out.print(f"{where}: {line}", markup=False, highlight=False, soft_wrap=True)
    out.print(
        f"{added.accepted} accepted, {added.waiting} wait for review, {len(added.again)} were there already, "
        f"{len({problem.where for problem in added.problems})} lines could not be read",
        highlight=False,
    )
    if added.waiting:
        out.print("Next:  thousand data review", highlight=False)
    if added.problems:
        raise typer.Exit(1)
