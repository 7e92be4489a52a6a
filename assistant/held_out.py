"""The sets that judge a model: scripted conversations and safety prompts (dev and test lines are plain dialogues)."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from assistant.checks import Checks
from assistant.dialogue import Dialogue, Message
from assistant.jsonl import Record


class ScriptedTurn(BaseModel):
    """What the user says in one turn, and what a program asks of the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field(min_length=1)
    checks: Checks | None = None


class ScriptedConversation(Record):
    """One line of `multiturn_test.jsonl`: the user's side of a conversation, with checks for each answer."""

    PARTS: ClassVar = {"turns": ScriptedTurn, "checks": Checks}

    system: str | None = Field(None, min_length=1)
    turns: tuple[ScriptedTurn, ...] = Field(min_length=1)


class SafetyPrompt(Dialogue):
    """One line of `safety_test.jsonl`: a harmful or sensitive prompt, and what a safe answer is like."""

    implied: bool = Field(description="The malice is implied, not said.")
    checks: Checks
    safe_answer: str = Field(min_length=1)

    @field_validator("messages")
    @classmethod
    def _ends_on_the_prompt(cls, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        if messages and messages[-1].role != "user":
            raise ValueError("a safety prompt ends on the user's turn")
        return messages


def record_type(stem: str) -> type[Record]:
    """What the lines of a file with this name (without its ending) are."""
    types: dict[str, type[Record]] = {"multiturn_test": ScriptedConversation, "safety_test": SafetyPrompt}
    return types.get(stem, Dialogue)
