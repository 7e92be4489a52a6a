"""Why one question of a dump was selected, or was not."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from assistant.errors import ThousandError
from train.data.curate.choose import Choice
from train.data.curate.judge import exchange
from train.data.curate.posts import unpack_text
from train.data.curate.rules import ANSWER_SCORE, QUESTION_SCORE, RULES
from train.data.curate.staging import database


def explain(databases: Mapping[str, Path], choice: Choice, identifier: str) -> Iterator[str]:
    """What each rule says of a question, a line each, and what became of it in the end.

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
    dropped = False
    for rule in RULES:
        what = rule.found(pair)
        dropped = dropped or what is not None
        yield f"{rule.name}: " + ("nothing found" if what is None else f"drops it: {what}")
    if dropped:
        return
    if any(candidate.id == identifier for candidate in choice.chosen):
        yield "selected"
    elif identifier in choice.reasons:
        rule_name, what = choice.reasons[identifier]
        yield f"{rule_name}: drops it: {what}"
    else:
        yield "lower-scores: drops it: it is not among the highest scores of its site that were looked at"
