"""How the next token is drawn."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Stop = Annotated[str, Field(min_length=1, max_length=200)]


class Sampling(BaseModel):
    """Settings of one answer's generation. Every value means what it says: 0 is 0, not "use the default".

    The defaults are the paper's (Zhou et al. 2023, section 4.1: nucleus p 0.9, temperature 0.7, at most 2,048 tokens)
    but for the repetition penalty (after Keskar et al. 2019): 1.1 in place of 1.2, because it costs a small model what
    was said earlier (docs/log.md). A release may carry its own.
    Raises pydantic.ValidationError for a value outside its range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(
        0.7, ge=0, le=2, description="0 always takes the likeliest token; higher is more varied."
    )
    top_p: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Nucleus sampling: draw from the smallest set of tokens whose probabilities sum to this; 1 is all of them.",
    )
    repetition_penalty: float = Field(
        1.1, ge=1, le=2, description="Divides the score of tokens that were used lately; 1 is none."
    )
    max_tokens: int = Field(2048, ge=1, le=32768, description="The longest answer, in tokens.")
    stop: tuple[Stop, ...] = Field(
        (), max_length=8, description="Texts at which the answer ends; they are not part of it."
    )
    seed: int | None = Field(
        None, ge=0, le=2**32 - 2, description="The same seed gives the same answer; none draws anew each time."
    )
