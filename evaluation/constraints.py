"""Constraint following: prompts that ask for something a program can check, strictly and loosely, so that no judge is needed.

After IFEval (Zhou et al. 2023, arXiv 2311.07911, section 2.2). Strictly, the answer itself passes. Loosely, it passes as it is
or without its first line (an opening such as "Sure, here it is:"), its last line, both, and each of these with the asterisks of
Markdown taken out; what is left must not be empty. The prompts are this project's own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from assistant.checks import Checks
from assistant.dialogue import Dialogue
from evaluation.dev import as_answers
from evaluation.dev import columns as plain_columns
from evaluation.intervals import Column
from evaluation.sets import Columns, PromptSet, Replies, Reply, read_set, scripted


def _loosened(answer: str) -> list[str]:
    lines = answer.split("\n")
    cut = ["\n".join(part).strip() for part in (lines, lines[1:], lines[:-1], lines[1:-1])]
    forms = [answer, *cut, *[form.replace("*", "") for form in (answer, *cut)]]
    return [form for form in dict.fromkeys(forms) if form.strip()]


def failed_loosely(checks: Checks, answer: str) -> list[str]:
    """The names of the checks that no form of the answer satisfies: each check may be satisfied by another form."""
    failures = [checks.failed(form) for form in _loosened(answer)]
    return [kind for kind in checks.kinds if all(kind in failed for failed in failures)]


def _columns(prompts: Sequence[Dialogue], replies: Replies) -> Columns:
    """`prompts_...`: the answer passes all of its checks. `checks_...`: the share of its checks that it passes. Then each kind of check
    among the prompts that have it, strictly and loosely."""
    failures: dict[str, Callable[[Checks, Reply], Sequence[str]]] = {
        "strict": lambda checks, reply: reply.failed_checks,
        "loose": lambda checks, reply: failed_loosely(checks, reply.text),
    }
    asked = [(prompt.checks, reply) for prompt, (reply,) in zip(prompts, replies, strict=True)]
    held: dict[str, list[dict[str, bool] | None]] = {
        manner: [_held(checks, reply, failed) for checks, reply in asked] for manner, failed in failures.items()
    }

    def of(value: Callable[[dict[str, bool]], float | None], manner: str) -> Column:
        return [None if kinds is None else value(kinds) for kinds in held[manner]]

    def among(kind: str) -> Callable[[dict[str, bool]], float | None]:
        return lambda kinds: float(kinds[kind]) if kind in kinds else None

    found = plain_columns(as_answers(prompts, replies))
    del found["checks_passed"]
    kinds = sorted({kind for prompt in prompts if prompt.checks for kind in prompt.checks.kinds})
    return {
        **{f"prompts_{manner}": of(lambda kinds: float(all(kinds.values())), manner) for manner in failures},
        **{f"checks_{manner}": of(lambda kinds: fmean(kinds.values()), manner) for manner in failures},
        **{f"{kind} {manner}": of(among(kind), manner) for kind in kinds for manner in failures},
        **found,
    }


def _held(
    checks: Checks | None, reply: Reply, failed: Callable[[Checks, Reply], Sequence[str]]
) -> dict[str, bool] | None:
    """Each kind of check and whether it holds; None where there is no answer to score."""
    assert checks is not None
    if reply.outcome == "unanswered":
        return None
    failures = checks.kinds if reply.outcome == "empty" else failed(checks, reply)
    return {kind: kind not in failures for kind in checks.kinds}


def prompt_set(path: Path | None) -> PromptSet:
    """The prompts with checks of a file, by default of the set that comes along. Raises ThousandError when it has none."""
    return read_set("constraints", path, Dialogue, scripted, _columns, wanted=lambda prompt: prompt.checks is not None)
