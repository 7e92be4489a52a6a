"""What tests of voting share: a person who presses keys, and a judge model that reads the answers."""

import re
from collections.abc import Callable

import pytest


def press(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """Somebody at a terminal who presses these keys, and then leaves."""
    pressed = iter(keys)

    def key() -> str:
        try:
            return next(pressed)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.getchar", key)


def part(question: str, name: str) -> str:
    """What a judge was shown under a name, such as ANSWER A."""
    found = re.search(rf"\[BEGIN {name}\]\n(.*?)\n\[END {name}\]", question, re.DOTALL)
    assert found, question
    return found[1]


def prefers(like: Callable[[str], bool]) -> Callable[[str], str]:
    """A judge's words: for the answer that it likes, or for neither when it likes both or none."""

    def say(question: str) -> str:
        a, b = (like(part(question, f"ANSWER {side}")) for side in "AB")
        return f"One of them may be better.\n\nVote: {'neither' if a == b else 'A' if a else 'B'}"

    return say
