"""The rules of the paper's section 2 on one question and its top answer, each a small function that says what it found."""

from collections.abc import Callable
from dataclasses import dataclass

import regex

from train.data.curate.markdown import FENCE, Clean
from train.data.curate.phrases import (
    ASKS,
    DEICTIC,
    FIRST_PERSON,
    HIDDEN_LINK,
    NO_PROSE,
    NOT_ALONE,
    OTHERS,
    QUOTED,
    SITE,
    UNSEEN,
)
from train.data.words import normal

QUESTION_SCORE = 3
"""The paper takes the highest-scoring questions; below this score none is among them."""
ANSWER_SCORE = 10
SHORTEST, LONGEST = 1_200, 4_096
"""Characters of an answer in Markdown."""
LONGEST_PROMPT = 2_000
SHORTEST_QUOTED = 25
"""Characters of a quoted line that is the asker's and stands in his text not by chance."""


@dataclass(frozen=True)
class Exchange:
    """A question and its top answer."""

    title: str
    description: Clean
    answer: Clean


@dataclass(frozen=True)
class Rule:
    """One thing that drops an exchange."""

    name: str
    drops: str
    found: Callable[[Exchange], str | None]
    """What it found in an exchange, or None when that may stay."""


def prose(text: str) -> str:
    """What an answer says itself: without code, formulas, quotations and what stands in quotation marks."""
    return str(NO_PROSE.sub(" … ", text))


def _phrase(match: "regex.Match[str]", text: str) -> str:
    """A match with the words around it."""
    begin, end = max(0, match.start() - 25), match.end() + 25
    return "…" + " ".join(text[begin:end].split()) + "…"


def first_person(exchange: Exchange) -> str | None:
    """ "I", "my" and their like in an answer's own words."""
    text = prose(exchange.answer.text)
    match = FIRST_PERSON.search(text)
    return _phrase(match, text) if match else None


def other_answers(exchange: Exchange) -> str | None:
    """Other answers, people and comments on the page."""
    text = prose(exchange.answer.text)
    match = OTHERS.search(text)
    return _phrase(match, text) if match else None


def the_site(exchange: Exchange) -> str | None:
    """The site, its votes and edits, and the asker as its user."""
    text = prose(exchange.answer.text)
    match = SITE.search(text)
    return _phrase(match, text) if match else None


def _quoted(exchange: Exchange) -> str | None:
    """A line that an answer quotes from the description, which the reader does not see where the title is the prompt."""
    asked = normal(exchange.description.text)
    for line in QUOTED.findall(FENCE.sub("", exchange.answer.text)):
        if len(line) >= SHORTEST_QUOTED and normal(line) in asked:
            return str(line)
    return None


def unseen(exchange: Exchange) -> str | None:
    """What the reader cannot see: a link's target, a picture, a source, the asker's own text."""
    for words in exchange.answer.links:
        if HIDDEN_LINK.fullmatch(words):
            return f"a link on {words!r}"
    if exchange.answer.pictures:
        return f"a picture after {exchange.answer.pictures[0][-50:]!r}"
    quoted = _quoted(exchange)
    if quoted:
        return f"a quotation of the asker's text: {quoted[:50]!r}"
    text = prose(exchange.answer.text)
    match = UNSEEN.search(text)
    return _phrase(match, text) if match else None


def title(exchange: Exchange) -> str | None:
    """A title that is no question, or none that can be understood without what is written below it."""
    text = exchange.title
    if len(text.split()) < 4:
        return f"only {len(text.split())} words: {text!r}"
    if match := DEICTIC.search(text):
        return f"{match[0]!r} in {text!r}"
    if not text.rstrip(" \"')").endswith("?") and not ASKS.match(text):
        return f"asks nothing: {text!r}"
    return None


def answer_length(exchange: Exchange) -> str | None:
    """An answer that is too short or too long."""
    size = len(exchange.answer.text)
    return None if SHORTEST <= size <= LONGEST else f"{size:,} characters"


RULES = (
    Rule("title", "titles that cannot be understood alone, or ask nothing", title),
    Rule("answer-length", f"answers under {SHORTEST:,} or over {LONGEST:,} characters", answer_length),
    Rule("first-person", 'answers with "I", "my" and their like', first_person),
    Rule("other-answers", "references to other answers, people and comments", other_answers),
    Rule("the-site", "references to the site, its votes and edits", the_site),
    Rule("unseen", "references to links, pictures, sources, the asker's text", unseen),
)


def stands_alone(description: Clean) -> bool:
    """Whether a description can be the prompt: it asks, is not long, and leans on nothing that is not there."""
    text = description.text
    if not 60 <= len(text) <= LONGEST_PROMPT or "?" not in text or description.pictures:
        return False
    return not any(map(HIDDEN_LINK.fullmatch, description.links)) and not NOT_ALONE.search(text)
