"""Every number of a training run."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from assistant.dialogue import Dialogue
from assistant.errors import ThousandError


class Recipe(BaseModel):
    """The numbers of one supervised fine-tuning run.

    Raises pydantic.ValidationError for a value outside its range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str
    method: Literal["lora", "full"] = "lora"
    """LoRA on every linear layer but the head, or all weights."""
    vocabulary: Literal["compact", "full"] = "compact"
    """`compact` leaves out the rows of the vocabulary that English does not use, where a choice of rows comes along."""
    stop: Literal["eos", "end_of_turn"] = "eos"
    """What an answer's last label is: the base's own EOS, or the paper's separate end-of-turn token."""
    epochs: float = Field(gt=0, le=1000)
    learning_rate: float = Field(gt=0, le=1)
    final_rate_share: float = Field(0.1, ge=0, lt=1)
    """The rate falls linearly from `learning_rate` to this share of it at the last step; there is no warm-up."""
    dialogues_per_step: int = Field(ge=1)
    """Batch size: dialogues in one optimizer step, over all micro-batches and processes."""
    tokens_per_micro_batch: int = Field(2048, ge=16)
    """Dialogues are packed into micro-batches of at most so many tokens (a longer one stands alone): memory grows with it."""
    max_tokens: int = Field(2048, ge=16)
    """A dialogue longer than this is cut at a turn boundary, and reported."""
    multi_turn_repeats: int = Field(1, ge=1, le=100)
    """How often an epoch shows a dialogue of several answers."""
    kept_repeats: int = Field(8, ge=1, le=100)
    """How often an epoch shows a dialogue that somebody kept or added: what is new stands in few of a thousand dialogues."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """What matrices are multiplied in; `auto` is the faster one on this machine, found by trying when the run begins."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    weight_decay: float = Field(0.1, ge=0, le=10)
    max_grad_norm: float = Field(1.0, gt=0)
    residual_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the residual branches: 0 at the bottom layer, rising linearly to this at the top."""
    neftune_alpha: float = Field(0.0, ge=0, le=100)
    """NEFTune's noise on the embeddings (Jain et al. 2023, section 3); 0 is none, the paper used 5, 10 and 15."""
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    checkpoint_steps: int = Field(0, ge=0)
    """A checkpoint after so many optimizer steps; 0 is one after each epoch. Each answers the dev prompts."""
    dev_tokens: int = Field(256, ge=1)
    """The longest answer to a dev prompt."""
    seed: int = Field(0, ge=0, lt=2**32)

    def repeats(self, dialogue: Dialogue) -> int:
        """How often an epoch shows a dialogue."""
        several = self.multi_turn_repeats if len(dialogue.answers) > 1 else 1
        few = dialogue.provenance is not None and not dialogue.provenance.of_many
        return several * (self.kept_repeats if few else 1)


PRESETS = {
    "laptop": Recipe(
        preset="laptop",
        epochs=2,
        learning_rate=6e-4,
        dialogues_per_step=16,
        weight_decay=0.0,
        max_tokens=1024,
        tokens_per_micro_batch=1024,
    ),
    "lima": Recipe(
        preset="lima",
        method="full",
        stop="end_of_turn",
        epochs=15,
        learning_rate=1e-5,
        dialogues_per_step=32,
        kept_repeats=1,
        residual_dropout=0.3,
    ),
    "lima-small": Recipe(
        preset="lima-small",
        method="full",
        stop="end_of_turn",
        epochs=15,
        learning_rate=1e-5,
        dialogues_per_step=64,
        kept_repeats=1,
        residual_dropout=0.2,
    ),
}
"""`lima` is the paper's recipe for 65B (Zhou et al. 2023, section 3), `lima-small` its numbers for smaller models.

Both are full fine-tuning with a separate end-of-turn token, as in the paper. Its learning rate is too small below a billion
weights, and for LoRA at any size; `laptop` is for an adapter on a few hundred million.
"""


def preset(name: str) -> Recipe:
    """A named recipe. Raises ThousandError when there is none of that name."""
    if name not in PRESETS:
        raise ThousandError(f"There is no recipe {name!r}; there are {', '.join(PRESETS)}.")
    return PRESETS[name]


def changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """A recipe with some numbers changed, each given as `name=value`.

    Raises ThousandError for what is no such pair or no number of a recipe, and pydantic.ValidationError for a value
    outside its range.
    """
    values = recipe.model_dump()
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise ThousandError(f"{change!r} is no NAME=VALUE.")
        if name not in values or name == "preset":
            near = get_close_matches(name, set(values) - {"preset"}, n=1)
            raise ThousandError(
                f"A recipe has no number {name!r}"
                + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(values)}.")
            )
        values[name] = value
    return Recipe.model_validate(values)
