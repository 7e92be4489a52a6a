"""The rules on rows of a table and on message trees: those of Stack Exchange that fit any text, and what the audit and personal
data add."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import regex

from train.data import form, wording
from train.data.audit import ERRORS
from train.data.corpus import Entry
from train.data.curate.markdown import Clean
from train.data.curate.phrases import HIDDEN_LINK, NOT_ALONE
from train.data.curate.rules import LONGEST_PROMPT, Exchange, first_person, other_answers, prose, the_site, unseen
from train.data.personal import personal

Finding = tuple[str, str | None]
"""A rule, and what it found that drops a text, or None."""
SHORTEST, LONGEST = 200, 4_096
"""Characters of an answer. The upper bound is the paper's; its lower one, 1,200, is for Stack Exchange."""
_GONE = regex.compile(r"\W*(?:deleted|removed|n/?a|none|null|nan)?\W*", regex.IGNORECASE)
_TAG = regex.compile(
    r"</?(?:p|br|div|span|a|ul|ol|li|b|i|em|strong|h[1-6]|table|tr|td|img|pre|code)\b[^<>]*>", regex.IGNORECASE
)


@dataclass(frozen=True)
class Bounds:
    """What of the rules can be set."""

    shortest: int = SHORTEST
    longest: int = LONGEST
    without: tuple[str, ...] = ()
    """Rules that drop nothing."""


def _empty(prompt: Clean, answer: Clean) -> str | None:
    for name, text in (("prompt", prompt.text), ("answer", answer.text)):
        if _GONE.fullmatch(text):
            return f"the {name} is {text!r}"
    return None


def _markup(prompt: Clean, answer: Clean) -> str | None:
    match = _TAG.search(prose(prompt.text)) or _TAG.search(prose(answer.text))
    return f"{match[0]!r}; if the texts are HTML, say so" if match else None


def _prompt(prompt: Clean, answer: Clean) -> str | None:
    if len(prompt.text) > LONGEST_PROMPT:
        return f"{len(prompt.text):,} characters"
    hidden = prompt.pictures or [words for words in prompt.links if HIDDEN_LINK.fullmatch(words)]
    if hidden:
        return f"a picture or link: {hidden[0]!r}"
    match = NOT_ALONE.search(prompt.text)
    return f"{match[0]!r}" if match else None


def _personal(prompt: Clean, answer: Clean) -> str | None:
    found = personal(prompt.text) or personal(answer.text)
    return str(found[0]) if found else None


def _audit(prompt: Clean, answer: Clean) -> str | None:
    row = Entry("", "", None, "", None, (prompt.text,), (answer.text,), None, True)
    findings = (*wording.wording([row]), *form.form([row]))
    return next((f"{finding.rule}: {finding.what}" for finding in findings if finding.rule in ERRORS), None)


def _of_answer(rule: Callable[[Exchange], str | None]) -> Callable[[Clean, Clean], str | None]:
    # Without the prompt: a quotation of what the reader sees is no fault.
    return lambda prompt, answer: rule(Exchange("", Clean("", (), ()), answer))


_FOUND: dict[str, Callable[[Clean, Clean], str | None]] = {
    "empty": _empty,
    "markup": _markup,
    "prompt": _prompt,
    "first-person": _of_answer(first_person),
    "other-answers": _of_answer(other_answers),
    "the-site": _of_answer(the_site),
    "unseen": _of_answer(unseen),
    "personal-data": _personal,
    "audit": _audit,
}
RULES = {
    "score": "rows with a score under --min-score",
    "empty": "prompts or answers that are empty, or deleted",
    "markup": "texts with HTML in them (--html makes it Markdown)",
    "prompt": f"prompts over {LONGEST_PROMPT:,} characters, or that lean on what is not there",
    "answer-length": "answers that are too short or too long",
    "first-person": 'answers with "I", "my" and their like',
    "other-answers": "references to other answers, people and comments",
    "the-site": "references to the site, its votes and edits",
    "unseen": "references to links, pictures, sources, the asker's text",
    "personal-data": "e-mail addresses, telephone and card numbers, keys",
    "audit": "what the audit of training data calls an error",
}

SWITCHED = tuple(name for name in RULES if name not in ("score", "empty"))
"""Those that can be switched off."""


def findings(prompt: Clean, answer: Clean, bounds: Bounds) -> Iterator[Finding]:
    """What each rule that is not switched off says of a prompt with its answer, in their order."""
    for name in RULES:
        if name in bounds.without or name == "score":
            continue
        if name == "answer-length":
            size = len(answer.text)
            yield name, None if bounds.shortest <= size <= bounds.longest else f"{size:,} characters"
        else:
            yield name, _FOUND[name](prompt, answer)


def first_fault(found: Iterable[Finding]) -> tuple[str, str] | None:
    """The first rule that drops something, and what it found; those behind it are not asked."""
    return next(((rule, what) for rule, what in found if what is not None), None)
