"""Rules on the words of an answer: phrases of a bad manner, anecdotes, and what the reader cannot see."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from train.data.corpus import Entry
from train.data.finding import Finding, Rule

RULES = (
    Rule("banned-opening", "error", "answers that begin with a flourish in place of the answer"),
    Rule("banned-phrase", "error", "phrases that a model repeats once it has seen them"),
    Rule("opening", "error", "three first words that open more than 1.5 % of the answers"),
    Rule("first-person", "warning", "anecdotes of somebody's own life"),
    Rule("unseen", "warning", "references to what the reader cannot see: a thread, a link, an image"),
)

OPENING_SHARE = 0.015
"""Of all answers, how many the same three words may open."""

_OPENINGS = re.compile(
    r"[^\w\"\u201c]*(?:(?:certainly|absolutely|definitely|sure(?: thing)?|of course|great|no problem)(?=\s*[!,.:;\u2014])"
    r"|(?:great|good|excellent|interesting) question\b|what a great\b"
    r"|i['\u2019]?m sorry,? (?:but|to hear)\b|i apologi[sz]e\b|thank(?:s| you) for (?:your|the|asking|reaching|contacting)\b"
    r"|i(?:['\u2019]d| would) be happy\b|as an (?:ai|assistant)\b|as a (?:large )?language model\b)",
    re.IGNORECASE,
)
_PHRASES = re.compile(
    r"\b(?:as an ai\b|as a (?:large )?language model|i hope (?:this|that) helps|hope (?:this|that) helps"
    r"|let me know if|feel free to|(?:don['\u2019]t|do not) hesitate to|happy to help|great question"
    r"|it(?:['\u2019]s| is) (?:important|worth|crucial) (?:to note|noting|to remember|remembering)"
    r"|in conclusion|delv(?:e|es|ing) into|rich tapestry"
    r"|a testament to|rest assured|in today['\u2019]s (?:fast-paced )?world|navigat(?:e|ing) the complexit)",
    re.IGNORECASE,
)
_ANECDOTE = re.compile(
    r"\b(?:(?:when|back when|while|since) i (?:was|were|worked|lived|studied|had my|first)"
    r"|in my (?:own )?(?:experience|case|house|opinion|country|family|day)"
    r"|i (?:remember|once|recently|personally|used to|grew up|bought mine|have been (?:working|living|using))"
    r"|my (?:own )?(?:experience|wife|husband|girlfriend|boyfriend|boss|kids|children|doctor|professor|advisor)\b"
    r"|speaking from experience|imho\b|imo\b)",
    re.IGNORECASE,
)
_UNSEEN = re.compile(
    r"(?:https?://|www\.)\S+|\b(?:see|as (?:shown|mentioned|described|explained|noted)) (?:in )?(?:the )?"
    r"(?:above|below|link|image|figure|screenshot|picture|attachment|comments?|other answers?)\b"
    r"|\b(?:this (?:thread|subreddit)|(?:this|the) (?:forum post|linked (?:page|article|question)))\b"
    r"|\b(?:other|previous|accepted|top) answers?\b(?= (?:here|above|below|say|said|mention|cover|already))"
    r"|\b(?:upvote|downvote|op said|the op\b|click here|in the comments|edit:)",
    re.IGNORECASE,
)
_UNSEEN_IN_PROMPT = re.compile(
    r"\b(?:see|in|look at|read) (?:the |this |my )?(?:attached|attachment|screenshot|enclosed|linked)\b"
    r"|\b(?:is|are|have|i've|the|an?) attached (?:is|are|the|an?|file|image|photo|picture|document|pdf)\b"
    r"|\bthe (?:image|photo|picture|screenshot|link) (?:above|below)\b|(?:https?://|www\.)\S+",
    re.IGNORECASE,
)
_COMPOSITION = re.compile(
    r"\b(?:write|draft|compose|rewrite|rephrase|story|poem|letter|email|e-mail|speech|toast|diary|monologue|scene|dialogue"
    r"|message|text to|note to|post|review|in the voice|as if|pretend|you are|lyrics|eulogy|translate|reply|wp|limerick"
    r"|paragraph|stanzas?|verses?|lines of|song|caption|bio|essay|summar\w+|minutes|proofread|correct)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"\"[^\"\n]*\"|\u201c[^\u201d\n]*\u201d|```.*?(?:```|\Z)|^>[^\n]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE
)


def opening(answer: str) -> str:
    """The first three words of an answer, in small letters."""
    return " ".join(re.findall(r"[\w'\u2019]+", answer.lower())[:3])


def _repeated_openings(entries: Sequence[Entry]) -> Iterator[Finding]:
    places: dict[str, list[str]] = defaultdict(list)
    total = 0
    for entry in entries:
        for answer in entry.answers:
            total += 1
            places[opening(answer)].append(entry.where)
    most = max(3, int(OPENING_SHARE * total))
    for words, where in places.items():
        if len(words.split()) == 3 and len(where) > most:
            others = ", ".join(where[1:4]) + (", ..." if len(where) > 4 else "")
            yield Finding(where[0], "opening", f"{words!r} opens {len(where)} of {total} answers, also {others}")


def _first_own(pattern: re.Pattern[str], text: str, asked: str) -> str | None:
    """The first match that the user has not said too: a phrase that the prompt holds is being talked about."""
    found = (match[0].rstrip(".,;:)") for match in pattern.finditer(text))
    return next((phrase for phrase in found if phrase.lower() not in asked.lower()), None)


def wording(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Findings of every rule of this module on the answers, and on the prompts for what they refer to."""
    for entry in entries:
        asked = f"{entry.system or ''}\n{entry.asked}"
        for prompt in entry.prompts:
            if match := _UNSEEN_IN_PROMPT.search(prompt):
                yield Finding(entry.where, "unseen", f"the prompt refers to {match[0]!r}")
        for answer in entry.answers:
            own = _QUOTED.sub(" ", answer)
            if match := _OPENINGS.match(answer):
                yield Finding(entry.where, "banned-opening", f"begins with {match[0].strip()!r}")
            if phrase := _first_own(_PHRASES, own, asked):
                yield Finding(entry.where, "banned-phrase", repr(phrase))
            if not _COMPOSITION.search(asked) and (phrase := _first_own(_ANECDOTE, own, asked)):
                yield Finding(entry.where, "first-person", repr(phrase))
            if phrase := _first_own(_UNSEEN, own, asked):
                yield Finding(entry.where, "unseen", f"the answer refers to {phrase!r}")
    yield from _repeated_openings(entries)
