"""How good an answer is, in [0, 1], as far as a program can tell by a reference answer, and a judge where there is one.

No part says much alone, and none of them is how probable the reference is: a model can give the reference more
probability from one epoch to the next while what it says gets worse, and the other way round (Zhou et al. 2023, section 3
and appendix B), so checkpoints are compared by what they say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from assistant.base_model import Say
from assistant.dialogue import Dialogue
from assistant.embedding import ANSWER_TOKENS, embed
from assistant.errors import ThousandError
from evaluation.dev import Answer

WEIGHTS = {
    "meaning": 0.35,
    "stopped": 0.20,
    "checks": 0.20,
    "topic": 0.15,
    "length": 0.10,
    "grade": 1.00,
}
"""What each part counts, among the parts that an answer has.

- `meaning`: the cosine of the answer's embedding to the reference's, 0 when negative. The most of all, because it alone
  looks at what is said.
- `stopped`: whether the answer ended by itself. An answer that runs on is spoilt for a reader, whatever stands in it.
- `checks`: the share of the prompt's checks that hold, where it has any. The only part that is sure.
- `topic`: 1, less what the answer's cosine to the prompt lacks of the reference's. An answer may rightly differ from the
  reference; it may not be about something else. Being nearer to the prompt than the reference earns nothing.
- `length`: the shorter of answer and reference divided by the longer, in words. Little, because a good answer may be
  longer or shorter than ours; but neither five words nor five hundred are right where it has fifty.
- `grade`: a judge's 1 to 6 as 0 to 1. As much as all the others together, because it alone reads.
"""

_WORD = re.compile(r"\w+")
_GRAM = 4


@dataclass(frozen=True)
class Quality:
    """The parts of one answer's score, each in [0, 1]: names as in WEIGHTS, those that the answer has."""

    parts: dict[str, float]
    own: float
    """How much of the answer is its own: what repeats the prompt or itself, beyond what the reference does, is none of it."""

    def score(self, *, with_grade: bool) -> float:
        """The weighted mean of the parts, times `own`: a copy answers nothing, however well it ends or fits the topic."""
        counted = {name: value for name, value in self.parts.items() if with_grade or name != "grade"}
        weight = sum(WEIGHTS[name] for name in counted)
        return self.own * sum(WEIGHTS[name] * value for name, value in counted.items()) / weight


def reference(prompt: Dialogue) -> str:
    """The answer that a dev prompt's line ends with. Raises ThousandError when it ends with the user's turn."""
    last = prompt.messages[-1]
    if last.role != "assistant":
        raise ThousandError(
            f"{prompt.where}: has no reference answer, by which checkpoints are compared; add an assistant turn."
        )
    return last.content


def asked(prompt: Dialogue) -> str:
    """The user's turn that the answer is to."""
    return next(message.content for message in reversed(prompt.messages) if message.role == "user")


def said_before(text: str, prompt: str) -> float:
    """The share of a text's word 4-grams that stand in the prompt or earlier in the text; 1 for the prompt itself."""
    words, seen_words = _WORD.findall(text.lower()), _WORD.findall(prompt.lower())
    if words == seen_words:
        return 1.0
    seen = {tuple(seen_words[start : start + _GRAM]) for start in range(len(seen_words) - _GRAM + 1)}
    grams = [tuple(words[start : start + _GRAM]) for start in range(len(words) - _GRAM + 1)]
    before = 0
    for gram in grams:
        before += gram in seen
        seen.add(gram)
    return before / len(grams) if grams else 0.0


def _own(answer: Answer) -> float:
    if not answer.text.strip():
        return 0.0
    prompt = asked(answer.prompt)
    return 1 - max(0.0, said_before(answer.text, prompt) - said_before(reference(answer.prompt), prompt))


def _length(answer: Answer) -> float:
    words, expected = len(answer.text.split()), len(reference(answer.prompt).split())
    return min(words, expected) / max(words, expected)


def _checks(answer: Answer) -> dict[str, float]:
    if answer.prompt.checks is None:
        return {}
    number = len(answer.prompt.checks.model_dump(exclude_none=True))
    return {"checks": 1 - len(answer.failed_checks) / number}


def qualities(answers: Sequence[Answer], say: Say, grades: Sequence[int | None] | None = None) -> list[Quality]:
    """The quality of each answer. `grades` are a judge's, 1 to 6; None where it failed, which leaves the part out.

    Raises ThousandError for a prompt without a reference answer.
    """
    references = [reference(answer.prompt) for answer in answers]
    given = [answer.text.strip() for answer in answers]
    vectors = embed([*given, *references, *[asked(answer.prompt) for answer in answers]], say, ANSWER_TOKENS)
    of_answer, of_reference, of_prompt = vectors.reshape(3, len(answers), -1)
    to_reference = (of_answer * of_reference).sum(axis=1).tolist()
    to_prompt = (of_answer * of_prompt).sum(axis=1).tolist()
    expected = (of_reference * of_prompt).sum(axis=1).tolist()
    found = []
    for number, answer in enumerate(answers):
        parts = {
            "meaning": min(1.0, max(0.0, to_reference[number])),
            "stopped": float(answer.stopped),
            "topic": 1 - min(1.0, max(0.0, expected[number] - to_prompt[number])),
            "length": _length(answer),
            **_checks(answer),
        }
        grade = grades[number] if grades is not None else None
        if grade is not None:
            parts["grade"] = (grade - 1) / 5
        found.append(Quality(parts, _own(answer)))
    return found


def part_means(found: Sequence[Quality]) -> dict[str, float]:
    """The mean of each part over the answers that have it, and of `own`, rounded to four digits."""
    names = [name for name in WEIGHTS if any(name in quality.parts for quality in found)]
    means = {name: fmean([quality.parts[name] for quality in found if name in quality.parts]) for name in names}
    return {name: round(mean, 4) for name, mean in {**means, "own": fmean([quality.own for quality in found])}.items()}
