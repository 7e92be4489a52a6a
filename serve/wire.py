"""The types on the wire: OpenAI's chat completions, with `repetition_penalty` beside them."""

from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from assistant.dialogue import Message
from assistant.sampling import Sampling, Stop

HARMLESS = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
)
"""OpenAI fields that are accepted and have no effect."""


MOST_FIELDS = 100
"""Of one object in a request; each unknown one would be a problem to tell of, and a hundred thousand take seconds."""


class Part(BaseModel):
    """An object in a request."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MOST_FIELDS:
            raise ValueError(f"has {len(value)} fields")
        return value


class StreamOptions(Part):
    """`include_usage` asks for a last chunk with the token counts."""

    include_usage: bool = False


class TextPart(Part):
    """A piece of a message's content; text is the only kind there is."""

    type: Literal["text"]
    text: str


class WireMessage(Part):
    """One message as clients send it: content as text or as text parts, `developer` as another name of `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: (
        str | Annotated[list[TextPart], Field(fail_fast=True)]
    )  # else a body of half a million bad parts is worked on for a minute
    name: str | None = None

    def message(self) -> Message:
        """The message as the rest of the house knows it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class ChatRequest(BaseModel):
    """The body of `POST /v1/chat/completions`. Every field is honoured or refused by name."""

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: list[WireMessage] = Field(min_length=1, max_length=500)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=8)] | None = None
    seed: int | None = None
    n: Literal[1] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        body = {name: item for name, item in value.items() if name not in HARMLESS}
        for name in body:
            if name not in cls.model_fields:
                near = get_close_matches(name[:100], cls.model_fields, n=1)
                raise ValueError(
                    f"{ascii(name)[1:-1]}: is not a field of this endpoint"
                    + (f"; did you mean {near[0]}?" if near else "")
                )
        return body

    @field_validator("n", "presence_penalty", "frequency_penalty", mode="before")
    @classmethod
    def _only_plain(cls, value: Any, info: Any) -> Any:
        plain = 1 if info.field_name == "n" else 0
        if value is not None and value != plain:
            raise ValueError(
                f"only {plain} is supported" + ("" if info.field_name == "n" else "; use repetition_penalty")
            )
        return value

    @model_validator(mode="after")
    def _one_limit(self) -> "ChatRequest":
        if (
            self.max_tokens is not None
            and self.max_completion_tokens is not None
            and self.max_tokens != self.max_completion_tokens
        ):
            raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: is only allowed with stream")
        return self

    def sampling(self, defaults: Sampling) -> Sampling:
        """The request's settings over the release's. Raises pydantic.ValidationError for a value outside its range."""
        limit = self.max_tokens if self.max_tokens is not None else self.max_completion_tokens
        asked = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
            "max_tokens": limit,
            "stop": (self.stop,) if isinstance(self.stop, str) else self.stop,
            "seed": self.seed,
        }
        return Sampling.model_validate(
            {**defaults.model_dump(), **{name: value for name, value in asked.items() if value is not None}}
        )
