"""Errors that a person can act on."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pydantic import ValidationError

ThingT = TypeVar("ThingT")
ReadT = TypeVar("ReadT")


class ThousandError(Exception):
    """Something a person can put right.

    The message is one plain sentence on what is wrong and what to do next; the command line prints it
    without a traceback and exits with status 1.
    """


class BadData(ThousandError):
    """One or more bad lines in dialogue files, each as `file:line: reason`."""

    def __init__(self, problems: Sequence[object]) -> None:
        self.problems = [str(problem) for problem in problems]
        count = len(self.problems)
        super().__init__(
            "\n".join([*self.problems, f"{count} problem{'s' if count != 1 else ''} found; nothing was changed."])
        )


def read_each(
    things: Iterable[ThingT], read: Callable[[ThingT], ReadT], damaged: Callable[[ThousandError], None] | None
) -> list[ReadT]:
    """What is read of each thing. What cannot be read is told to `damaged` and left out; where that is None it is raised."""
    found = []
    for thing in things:
        try:
            found.append(read(thing))
        except ThousandError as error:
            if damaged is None:
                raise
            damaged(error)
    return found


def validation_sentence(error: ValidationError) -> str:
    """All problems that pydantic found, as `field: what is wrong`, joined by semicolons."""
    parts = [(".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")) for item in error.errors()]
    return "; ".join(f"{place}: {text}" if place else text for place, text in parts)
