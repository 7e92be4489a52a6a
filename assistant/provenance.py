"""Where a kept dialogue comes from, and who agreed that it is learnt from."""

from pydantic import BaseModel, ConfigDict, Field


class Provenance(BaseModel):
    """What is known of a dialogue that came from a conversation or a file. Times are ISO 8601, in UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conversation: str | None = Field(None, description="The conversation it was kept from.")
    file: str | None = Field(None, description="The file it was added from, by name.")
    release: str | None = Field(None, description="The release that gave the last answer.")
    corrected: bool = Field(False, description="Whether the last answer is a person's own.")
    given: str | None = Field(None, description="When it was given.")
    by: str | None = Field(None, description="The name of the API key it was given with.")
    consent: str | None = Field(None, description="What the giver agreed to, in words.")
    reviewed: str | None = Field(None, description="When it was accepted.")
    reviewer: str | None = Field(None, description="Who accepted it.")
    edited: bool = Field(False, description="Whether the reviewer changed it.")
