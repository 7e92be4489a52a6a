"""Errors that a person can act on."""

from collections.abc import Sequence


class ThousandError(Exception):
    """Something a person can put right.

    The message is one plain sentence on what is wrong and what to do next; the command line prints it
    without a traceback and exits with status 1.
    """


class BadData(ThousandError):
    """One or more bad lines in dialogue files, each as `file:line: reason`."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        super().__init__(
            "\n".join([*self.problems, f"{count} problem{'s' if count != 1 else ''} found; nothing was changed."])
        )
