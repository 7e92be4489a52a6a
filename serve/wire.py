"""The types on the wire: OpenAI's chat completions and completions, with `repetition_penalty` beside them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import Discriminator, Field, Tag, WithJsonSchema, field_validator, model_validator

from assistant.dialogue import Message, said
from assistant.sampling import MOST_STOPS, MaxTokens, RepetitionPenalty, Sampling, Seed, Stop, Temperature, TopP
from serve.body import WHOLE, Only, Part
from serve.chat import Refused
from serve.engines.base import ANY_OBJECT, Wanted
from serve.schema import bounded

MOST_CHOICES = 8
"""Answers to one request: `n`, times the prompts of a completion."""
MOST_LIKELIEST = 20
COMPLETION_TOKENS = 16
"""What a completion is long that says nothing of it, as OpenAI's is: a text without an end of its own goes on for long."""

NO_EFFECT = "Accepted, without effect."
NO_TOOLS = "this model calls no tools"
ONLY_TEXT = "this model reads and writes text only"


def _text_or_list(value: Any) -> str:
    """Which branch of a union a value is for; the `~` keeps its name out of what clients are told."""
    return "~list" if isinstance(value, list) else "~text"


SAYS_SOMETHING = {"type": "string", "pattern": r"[^\s\x1c-\x1f\x85]"}
"""A text that is not blank."""
Likeliest = Annotated[int, Field(ge=0, le=MOST_LIKELIEST), WHOLE]


class StreamOptions(Part):
    """`include_usage` asks for a last chunk with the token counts."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[Any, Only(False, why="nothing is put in to hide lengths")] = None


class TextPart(Part):
    """A piece of a message's content; text is the only kind there is."""

    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"] != "text":
            raise ValueError(f"is of type {value['type'][:40]!r}, but {ONLY_TEXT}")
        return value


class WireMessage(Part):
    """One message as clients send it: content as text or as text parts, `developer` as another name of `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("~text"), WithJsonSchema(SAYS_SOMETHING)]
        | Annotated[
            list[TextPart],
            Tag("~list"),
            Field(max_length=100, json_schema_extra={"contains": {"properties": {"text": SAYS_SOMETHING}}}),
        ],
        Discriminator(_text_or_list),
    ]
    name: str | None = None
    annotations: Annotated[Any, Only([], why="answers have none")] = None
    tool_calls: Annotated[Any, Only([], why=NO_TOOLS)] = None

    @field_validator("role", mode="before")
    @classmethod
    def _no_tools(cls, role: Any) -> Any:
        if role in ("tool", "function"):
            raise ValueError(f"is {role!r}, but {NO_TOOLS}")
        return role

    @field_validator("content")
    @classmethod
    def _says_something(cls, content: str | list[TextPart]) -> str:
        return said(content if isinstance(content, str) else "".join(part.text for part in content))

    def message(self) -> Message:
        """The message as the rest of the house knows it."""
        assert isinstance(self.content, str)
        return Message(role="system" if self.role == "developer" else self.role, content=self.content)


class JsonSchema(Part):
    """What `response_format` says of a schema. `name`, `description` and `strict` have no effect: it is always kept to."""

    name: str = Field(min_length=1, max_length=64)
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Part):
    """Text, any JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def kept_to(self) -> Mapping[str, Any] | None:
        """What an engine is to keep to, None for text. Raises Refused."""
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise Refused(
                'response_format: json_schema goes with "type": "json_schema", and with nothing else',
                parameter="response_format",
            )
        if self.json_schema is None:
            return ANY_OBJECT if self.type == "json_object" else None
        try:
            return bounded(self.json_schema.schema_)
        except ValueError as error:
            place = "response_format.json_schema.schema"
            raise Refused(f"{place}: {error}", parameter=place) from None


class Request(Part):
    """What a chat and a completion have in common. Every field is honoured or refused by name.

    What one field says of another is checked by what is read from them, and Refused.
    """

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[MaxTokens, WHOLE] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    stop: (
        Annotated[
            Annotated[Stop, Tag("~text")] | Annotated[list[Stop], Tag("~list"), Field(max_length=MOST_STOPS)],
            Discriminator(_text_or_list),
        ]
        | None
    ) = None
    seed: Annotated[Seed, WHOLE] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES), WHOLE] | None = None
    presence_penalty: Annotated[Any, Only(0, why="only 0 is supported; use repetition_penalty")] = None
    frequency_penalty: Annotated[Any, Only(0, why="only 0 is supported; use repetition_penalty")] = None
    logit_bias: Annotated[Any, Only({}, why="is not supported")] = None
    user: Any = Field(None, description=NO_EFFECT)
    metadata: Any = Field(None, description=NO_EFFECT)
    store: Any = Field(None, description=NO_EFFECT)
    service_tier: Any = Field(None, description=NO_EFFECT)
    safety_identifier: Any = Field(None, description=NO_EFFECT)
    prompt_cache_key: Any = Field(None, description=NO_EFFECT)
    prompt_cache_retention: Any = Field(None, description=NO_EFFECT)

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the token counts. Raises Refused."""
        if self.stream_options is not None and not self.stream:
            raise Refused("stream_options: is only allowed with stream", parameter="stream_options")
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def limit(self) -> int | None:
        """The longest answer that was asked for, in tokens."""
        return self.max_tokens

    def samplings(self, defaults: Sampling) -> list[Sampling]:
        """The settings of each of the `n` answers: the request's over the release's."""
        stop = (self.stop,) if isinstance(self.stop, str) else None if self.stop is None else tuple(self.stop)
        asked = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
            "max_tokens": self.limit(),
            "stop": stop,
            "seed": self.seed,
        }
        sampling = defaults.model_copy(update={name: value for name, value in asked.items() if value is not None})
        return [sampling.apart(number) for number in range(self.n or 1)]


class ChatRequest(Request):
    """The body of `POST /v1/chat/completions`."""

    messages: list[WireMessage] = Field(min_length=1, max_length=500)
    max_completion_tokens: Annotated[MaxTokens, WHOLE] | None = None
    logprobs: bool | None = None
    top_logprobs: Likeliest | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[Any, Only([], why=NO_TOOLS)] = None
    tool_choice: Annotated[Any, Only("none", "auto", why=NO_TOOLS)] = None
    parallel_tool_calls: Any = Field(None, description=NO_EFFECT)
    functions: Annotated[Any, Only([], why=NO_TOOLS)] = None
    function_call: Annotated[Any, Only("none", "auto", why=NO_TOOLS)] = None
    modalities: Annotated[Any, Only(["text"], why=ONLY_TEXT)] = None

    def limit(self) -> int | None:
        """See Request."""
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return min(limits, default=None)

    @property
    def wanted(self) -> Wanted:
        """What is wanted beside text. Raises Refused."""
        if self.top_logprobs is not None and not self.logprobs:
            raise Refused("top_logprobs: is only allowed with logprobs", parameter="top_logprobs")
        schema = self.response_format.kept_to() if self.response_format is not None else None
        return Wanted((self.top_logprobs or 0) if self.logprobs else None, schema)


def _kind_of_prompt(value: Any) -> str:
    """Which branch a prompt is for: a text, several, token ids, or several lists of them."""
    first = value[0] if isinstance(value, list) and value else None
    if not isinstance(value, list):
        return "~text"
    return "~texts" if isinstance(first, str) else "~lists" if isinstance(first, list) else "~ids"


TokenIds = Annotated[list[Annotated[int, Field(ge=0), WHOLE]], Field(min_length=1, fail_fast=True)]


class CompletionRequest(Request):
    """The body of `POST /v1/completions`: a text, or token ids, to go on with; or several of one kind."""

    prompt: Annotated[
        Annotated[str, Tag("~text")]
        | Annotated[list[str], Tag("~texts"), Field(min_length=1, max_length=MOST_CHOICES)]
        | Annotated[TokenIds, Tag("~ids")]
        | Annotated[list[TokenIds], Tag("~lists"), Field(min_length=1, max_length=MOST_CHOICES)],
        Discriminator(_kind_of_prompt),
    ]
    logprobs: Likeliest | None = None
    best_of: Annotated[Any, Only(1, why="only 1 is supported; use n")] = None
    echo: Annotated[Any, Only(False, why="the prompt is not said again")] = None
    suffix: Annotated[Any, Only("", why="this model does not fill in the middle of a text")] = None

    def limit(self) -> int:
        """See Request."""
        return COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or token ids. Raises Refused for more answers than are given at once."""
        several = isinstance(self.prompt, list) and not isinstance(self.prompt[0], int)
        prompts = cast("list[str | list[int]]", self.prompt if several else [self.prompt])
        choices = len(prompts) * (self.n or 1)
        if choices > MOST_CHOICES:
            raise Refused(
                f"n: {choices} answers are asked for, n for each prompt; {MOST_CHOICES} are given at once",
                parameter="n",
            )
        return prompts

    @property
    def wanted(self) -> Wanted:
        """What is wanted beside text."""
        return Wanted(self.logprobs)
