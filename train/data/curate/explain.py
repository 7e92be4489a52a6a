"""Why one question of a dump was selected, or was not."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from assistant.errors import ThousandError
from train.data.curate.choose import Choice
from train.data.curate.judge import exchange
from train.data.curate.posts import unpack_text
from train.data.curate.rules import ANSWER_SCORE, QUESTION_SCORE, RULES
from train.data.curate.staging import database


def told(rule: str, found: str | None) -> str:
    """What a rule says, as a line."""
    return f"{rule}: " + ("nothing found" if found is None else f"drops it: {found}")


def fate(choice: Choice, identifier: str) -> str:
    """What became of one that no rule drops, as a line."""
    if any(candidate.id == identifier for candidate in choice.chosen):
        return "selected"
    return told(
        *choice.reasons.get(identifier, ("lower-scores", "it is not among the highest scores that were looked at"))
    )


def explain(databases: Mapping[str, Path], chosen: Callable[[], Choice], identifier: str) -> Iterator[str]:
    """What each rule says of a question, a line each, and what became of it in the end; `chosen` is asked only when none drops it.

    Raises ThousandError when there is no such question.
    """
    site, _, number = identifier.rpartition("-")
    if site not in databases or not number.isdigit():
        raise ThousandError(
            f"{identifier!r} is no question here; write SITE-NUMBER, with a site of {', '.join(databases)}."
        )
    with database(databases[site]) as found:
        asked = found.execute("SELECT score, packed FROM questions WHERE id = ?", (int(number),)).fetchone()
        best = found.execute(
            "SELECT score, packed FROM answers WHERE question = ? ORDER BY score DESC, id LIMIT 1", (int(number),)
        ).fetchone()
    if asked is None:
        raise ThousandError(f"{site} has no question {number} that can be read; take one from its Posts.xml.")
    if asked[1] is None:
        yield f"question-score: drops it: a score of {asked[0]}, under {QUESTION_SCORE}"
        return
    yield f"question-score: {asked[0]}"
    if best is None:
        yield f"answer-score: drops it: no answer with a score of {ANSWER_SCORE} or more"
        return
    yield f"answer-score: {best[0]}"
    try:
        pair = exchange(unpack_text(asked[1]), unpack_text(best[1]))
    except ValueError as error:
        yield f"answer-length: drops it: {error}"
        return
    findings = [(rule.name, rule.found(pair)) for rule in RULES]
    yield from (told(*finding) for finding in findings)
    if all(found is None for _, found in findings):
        yield fate(chosen(), identifier)
