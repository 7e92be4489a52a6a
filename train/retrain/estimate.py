"""How long a retraining takes on this machine, from what was measured, and whatever that was is said."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant import opening, release
from assistant.console import minutes
from assistant.dialogue import Dialogue
from assistant.files import write_text
from assistant.release import Release
from assistant.settings import settings
from train.recipe import Recipe
from train.retrain.state import folder


class Speed(NamedTuple):
    """How fast this machine trains."""

    tokens_per_second: float
    source: str
    """Where the number is from, for a sentence."""
    here: bool
    """Whether it was measured on this machine."""


class Took(BaseModel):
    """Seconds that the last retraining here took beside its training steps; saved as `took.json`."""

    model_config = ConfigDict(extra="forbid")

    dev: float
    """For the answers to the dev prompts and whatever else is around the steps."""
    comparing: float


class Estimate(NamedTuple):
    """How long it takes, in seconds."""

    tokens: int
    """That go through training, each epoch counted."""
    speed: Speed | None
    took: Took | None

    @property
    def training(self) -> float | None:
        """Seconds of training steps."""
        return None if self.speed is None else self.tokens / self.speed.tokens_per_second

    @property
    def sentence(self) -> str:
        """For people."""
        if self.training is None or self.speed is None:
            return f"{self.tokens:,} tokens go through training; how fast that is here is seen at its first steps."
        told = (
            f"About {minutes(self.training)} of training: {self.tokens:,} tokens at {self.speed.tokens_per_second:.0f} a second "
            f"({self.speed.source})"
        )
        if self.took is None:
            return f"{told}. Then both releases answer the same prompts, which has not been timed here yet."
        return f"{told}, and {minutes(self.took.dev + self.took.comparing)} for answers, as the last time."


def estimate(record: Release, recipe: Recipe, dialogues: Sequence[Dialogue]) -> Estimate:
    """How long training on the dialogues takes. Nothing is computed for it but their tokens."""
    template = opening.open_template(release.path(record.name), record)
    tokens = 0
    for dialogue in dialogues:
        length = min(recipe.max_tokens, len(template.render(dialogue.messages).ids))
        tokens += length * recipe.repeats(dialogue)
    return Estimate(round(tokens * recipe.epochs), speed(record, recipe), read_took())


def speed(record: Release, recipe: Recipe) -> Speed | None:
    """What the newest release that was trained here in the same way says, else what the given one says of wherever it was
    trained; None when neither says anything."""
    runs = settings().home / "runs"
    like_it = [
        known
        for known in reversed(release.whole_ones())
        if (known.base_checksum, known.method, known.vocabulary)
        == (record.base_checksum, recipe.method, recipe.vocabulary)
        and known.training.get("tokens_per_second")
    ]
    for known in like_it:
        if (runs / known.name / "run.json").exists():
            return Speed(known.training["tokens_per_second"], f"measured here for {known.name}", here=True)
    rate = record.training.get("tokens_per_second")
    if not rate or record.method != recipe.method:
        return None
    return Speed(rate, f"where {record.name} was trained; the first steps tell how it is here", here=False)


def read_took() -> Took | None:
    """What the last retraining here took; None when there was none, or its file is damaged: it is only a guess's ground."""
    try:
        return Took.model_validate(json.loads((folder() / "took.json").read_bytes()))
    except (OSError, ValueError, ValidationError):
        return None


def write_took(took: Took) -> None:
    write_text(folder() / "took.json", took.model_dump_json() + "\n")
