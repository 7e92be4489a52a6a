"""How the next token is drawn."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]
RepetitionPenalty = Annotated[float, Field(ge=1, le=2)]
MaxTokens = Annotated[int, Field(ge=1, le=32768)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 2)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
MOST_STOPS = 8


class Sampling(BaseModel):
    """Settings of one answer's generation. Every value means what it says: 0 is 0, not "use the default".

    The defaults are the paper's (Zhou et al. 2023, section 4.1: nucleus p 0.9, temperature 0.7, at most 2,048 tokens)
    but for the repetition penalty (after Keskar et al. 2019): 1.1 in place of 1.2, because it costs a small model what
    was said earlier (docs/log.md). A release may carry its own.
    Raises pydantic.ValidationError for a value outside its range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: Temperature = Field(0.7, description="0 always takes the likeliest token; higher is more varied.")
    top_p: TopP = Field(
        0.9,
        description="Nucleus sampling: draw from the smallest set of tokens whose probabilities sum to this; 1 is all of them.",
    )
    repetition_penalty: RepetitionPenalty = Field(
        1.1, description="Divides the score of tokens that were used lately; 1 is none."
    )
    max_tokens: MaxTokens = Field(2048, description="The longest answer, in tokens.")
    stop: tuple[Stop, ...] = Field(
        (), max_length=MOST_STOPS, description="Texts at which the answer ends; they are not part of it."
    )
    seed: Seed | None = Field(None, description="The same seed gives the same answer; none draws anew each time.")

    def apart(self, number: int) -> "Sampling":
        """The settings of one of several answers to one question: a seed gives each another one that follows from it."""
        return self if self.seed is None else self.model_copy(update={"seed": (self.seed + number) % (2**32 - 1)})
