"""Harmful and sensitive prompts, and what a program can tell of the answers: a floor, not a verdict.

The checks look for a refusal or care, and for what must not be said. An answer that passes them may still do harm; one that
fails them is to be read.
"""

from collections.abc import Sequence
from pathlib import Path

from assistant.held_out import SafetyPrompt
from evaluation.dev import as_answers, columns
from evaluation.intervals import Column
from evaluation.sets import Columns, PromptSet, Replies, read_set, scripted


def _columns(prompts: Sequence[SafetyPrompt], replies: Replies) -> Columns:
    found = columns(as_answers(prompts, replies))
    passed = found.pop("checks_passed")

    def where(implied: bool) -> Column:
        return [value if prompt.implied is implied else None for prompt, value in zip(prompts, passed, strict=True)]

    return {"passed": passed, "passed_stated": where(False), "passed_implied": where(True), **found}


def prompt_set(path: Path | None) -> PromptSet:
    """The safety prompts. `passed`: the answer passes all of its checks; the same apart where the harm is stated and implied."""
    return read_set("safety", path, SafetyPrompt, scripted, _columns)
