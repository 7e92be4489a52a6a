"""What a release changed in its base, token by token: the record that `thousand evaluate shift` leaves, and how to read it.

`read_shift(RELEASE)` gives it, for a report; beside it stand `shift.html`, `positions.png` and `answer.png`.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant import release
from assistant.errors import ThousandError
from assistant.sampling import Sampling
from assistant.settings import settings
from evaluation.intervals import Interval

TokenKind = Literal["stop", "opening", "format", "function", "content"]
KINDS: dict[TokenKind, str] = {
    "stop": "the token that ends the answer",
    "opening": "the first five tokens",
    "format": "punctuation, line ends, list marks",
    "function": "articles, pronouns, prepositions, conjunctions, auxiliaries and the like",
    "content": "other words, parts of words, numbers",
}
MANNER: frozenset[TokenKind] = frozenset({"stop", "opening", "format", "function"})
"""How something is said; `content` is what is said. The line is drawn by rule, and rough."""
NEAR = 3
"""A token of this rank or better is among the base's likeliest (Lin et al. 2023, section 2)."""
SPANS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 40), (41, 80), (81, 160), (161, 1 << 20))
"""Places in an answer, counted from 1, that are looked at together."""
RECORD = "shift.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Token(_Model):
    """One place of an answer."""

    text: str
    """What stands there; empty for its end."""
    choice: str
    """The release's likeliest token there; empty for the end."""
    base: str
    """The base's likeliest token after the same prompt."""
    rank: int
    """Of the release's choice in the base after the same prompt, from 1."""
    rank_with_examples: int
    """The same after a preamble and three examples."""
    kind: TokenKind
    """Of the release's choice."""


class Answer(_Model):
    """One answer of the release."""

    id: str
    prompt: str
    tokens: tuple[Token, ...]


class Shares(_Model):
    """Of the places of an answer, the mean over the answers."""

    first: Interval
    """The token is the base's first choice: unshifted."""
    near: Interval
    """It is the second or third: marginal."""
    shifted: Interval
    """It is neither."""

    @classmethod
    def of(cls, ranks: Sequence[Sequence[int]]) -> "Shares":
        """From the ranks of at least one answer, none of them empty."""

        def share(low: int, high: int) -> Interval:
            return Interval.of([sum(low <= rank <= high for rank in one) / len(one) for one in ranks])

        return cls(first=share(1, 1), near=share(2, NEAR), shifted=share(NEAR + 1, 1 << 40))


class OfKind(_Model):
    """One kind of token."""

    kind: TokenKind
    places: int
    shifted: int
    share: Interval
    """Of its places that are shifted, the mean over the answers that have some."""


class Span(_Model):
    """Some places of the answers."""

    first: int
    last: int
    answers: int
    """That are so long."""
    shifted: Interval


class Compared(_Model):
    """The release's choices by their ranks in the base."""

    shares: Shares
    kinds: tuple[OfKind, ...]
    manner: Interval | None
    """The share of the shifted tokens that are manner, the mean over the answers that have some."""
    spans: tuple[Span, ...]


class Shift(_Model):
    """The record; `shift.json` in the folder of the release's name."""

    release: str
    adapter_sha256: str
    base: str
    made: datetime
    version: str
    sampling: Sampling
    """By which the answers were drawn."""
    prompts_sha256: str
    left_out: tuple[str, ...]
    """Prompts that stand twice, or without an answer to look at, and why."""
    places: int
    stopped: Interval
    repeated: Interval
    """Share of word 4-grams that occurred in the answer before: places in a loop are easy to foresee."""
    as_written: Interval
    """Share of the places at which the release's likeliest token stands in the answer; less than all of them when drawn with
    chance, and by the rounding of another engine."""
    same_prompt: Compared
    with_examples: Compared
    text_in_base: Shares | None
    """For scale: the ranks in the base of the tokens of the reference answers, which neither model wrote; None without any."""
    text_in_release: Shares | None
    """The same in the release."""
    shown: str
    """The answer in the picture."""
    answers: tuple[Answer, ...]

    @property
    def answer(self) -> Answer:
        return next(one for one in self.answers if one.id == self.shown)


def folder(name: str) -> Path:
    """Where the shift of a release is."""
    return settings().home / "evaluations" / "shift" / name


def read_shift(name: str) -> Shift | None:
    """The shift of a release by its name, None when it has not been measured.

    Raises ThousandError when it is damaged, or of another release that had the same name.
    """
    file = folder(name) / RECORD
    if not file.exists():
        return None
    again = f"measure it again with: thousand evaluate shift {name}"
    try:
        found = Shift.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ThousandError(f"{file} is damaged; {again}") from None
    if found.adapter_sha256 != release.read(release.path(name)).adapter_sha256:
        raise ThousandError(f"{file} is of another release than the {name} that is here; {again}")
    return found
