"""Where a kept dialogue comes from, and who agreed that it is learnt from."""

from pydantic import BaseModel, ConfigDict, Field


class Work(BaseModel):
    """A text by somebody else that the dialogue was made from, and what its licence asks to be said of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(None, description="Where it stands.")
    author: str | None = Field(None, description="Who wrote it.")
    author_url: str | None = Field(None, description="The author's page.")
    license: str | None = Field(None, description="An SPDX identifier.")


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
    works: tuple[Work, ...] | None = Field(None, description="The texts by others that it was made from.")
    changes: str | None = Field(None, description="What was done to those texts.")
    edited: bool = Field(False, description="Whether the reviewer changed it.")

    @property
    def of_many(self) -> bool:
        """Whether it was selected out of many texts by others, and not kept or corrected in a conversation."""
        return self.changes is not None
