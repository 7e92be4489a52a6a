"""What is answered: OpenAI's objects for chats and completions, whole and in pieces."""

from collections.abc import Sequence
from typing import Literal, NotRequired, Protocol

from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from assistant.template import Template
from serve.chat import Told
from serve.engines.base import FinishReason

LEAST_LOGPROB = -9999.0
"""What OpenAI writes for a token that is as good as impossible."""


class CachedTokens(TypedDict):
    cached_tokens: int


class TokenCounts(TypedDict):
    """`usage`; a prompt that gets several answers counts once."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class LikelyToken(TypedDict):
    """`bytes` is what the token says, as UTF-8, which may be a part of a character; null for a control token."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLikelihood(LikelyToken):
    top_logprobs: list[LikelyToken]


class ChatLogprobs(TypedDict):
    content: list[TokenLikelihood]
    refusal: None


class ChatMessage(TypedDict):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class Delta(TypedDict):
    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


class ChatPiece(TypedDict):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class TextLogprobs(TypedDict):
    """`text_offset` counts from the beginning of `text`; `top_logprobs` holds the token that was drawn, too."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(TypedDict):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class _Answer(TypedDict):
    id: str
    created: int
    model: str
    system_fingerprint: str | None


class ChatCompletion(_Answer):
    """The answer of `POST /v1/chat/completions` that is not streamed."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: TokenCounts


class ChatCompletionChunk(_Answer):
    """One `data:` of a stream; the last one before `[DONE]` has no choices when usage was asked for."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatPiece]
    usage: NotRequired[TokenCounts | None]


class Completion(_Answer):
    """The answer of `POST /v1/completions`, and one `data:` of its stream."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: NotRequired[TokenCounts | None]


class ModelCard(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelCard]


def _spelled(template: Template, token: int, octets: bytes | None) -> tuple[str, list[int] | None]:
    """A token as text, and as bytes; a part of a character as OpenAI writes it, `bytes:\\xf0\\x9f`."""
    octets = octets if octets is not None else template.octets(token)
    if octets is None:
        return template.tokenizer.id_to_token(token) or "", None
    try:
        return octets.decode(), list(octets)
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{octet:02x}" for octet in octets), list(octets)


def _likely(template: Template, token: int, logprob: float, octets: bytes | None = None) -> LikelyToken:
    text, whole = _spelled(template, token, octets)
    return {"token": text, "logprob": max(logprob, LEAST_LOGPROB), "bytes": whole}


class Shape(Protocol):
    """How one endpoint tells its answers."""

    prefix: str
    whole_object: str
    piece_object: str

    def opening(self, index: int) -> ChatPiece | None:
        """What a stream says of an answer before anything else."""
        ...

    def piece(self, index: int, text: str, told: Sequence[Told], reason: FinishReason | None) -> ChatPiece | TextChoice:
        """A piece of an answer in a stream."""
        ...

    def whole(self, index: int, text: str, told: Sequence[Told], reason: FinishReason) -> ChatChoice | TextChoice:
        """A whole answer."""
        ...


class ChatShape:
    """`/v1/chat/completions`."""

    prefix, whole_object, piece_object = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, template: Template, *, logprobs: bool) -> None:
        self._template = template
        self._logprobs = logprobs

    def opening(self, index: int) -> ChatPiece | None:
        """Whose answer it is."""
        return {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }

    def piece(self, index: int, text: str, told: Sequence[Told], reason: FinishReason | None) -> ChatPiece:
        """See Shape."""
        delta: Delta = {"content": text} if text else {}
        return {"index": index, "delta": delta, "logprobs": self._told(told), "finish_reason": reason}

    def whole(self, index: int, text: str, told: Sequence[Told], reason: FinishReason) -> ChatChoice:
        """See Shape."""
        message: ChatMessage = {"role": "assistant", "content": text, "refusal": None}
        logprobs = self._told(told) or ({"content": [], "refusal": None} if self._logprobs else None)
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}

    def _told(self, told: Sequence[Told]) -> ChatLogprobs | None:
        content: list[TokenLikelihood] = [
            {
                **_likely(self._template, one.likelihood.token, one.likelihood.logprob, one.likelihood.octets),
                "top_logprobs": [_likely(self._template, *other) for other in one.likelihood.likeliest],
            }
            for one in told
        ]
        return {"content": content, "refusal": None} if content else None


class TextShape:
    """`/v1/completions`."""

    prefix, whole_object, piece_object = "cmpl-", "text_completion", "text_completion"

    def __init__(self, template: Template) -> None:
        self._template = template

    def opening(self, index: int) -> None:
        """Nothing."""

    def piece(self, index: int, text: str, told: Sequence[Told], reason: FinishReason | None) -> TextChoice:
        """See Shape."""
        return {"index": index, "text": text, "logprobs": self._told(told), "finish_reason": reason}

    def whole(self, index: int, text: str, told: Sequence[Told], reason: FinishReason) -> TextChoice:
        """See Shape."""
        return {"index": index, "text": text, "logprobs": self._told(told), "finish_reason": reason}

    def _told(self, told: Sequence[Told]) -> TextLogprobs | None:
        if not told:
            return None
        found: TextLogprobs = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for one in told:
            drawn = _likely(self._template, one.likelihood.token, one.likelihood.logprob, one.likelihood.octets)
            likeliest = [_likely(self._template, *other) for other in one.likelihood.likeliest]
            found["tokens"].append(drawn["token"])
            found["token_logprobs"].append(drawn["logprob"])
            found["top_logprobs"].append({other["token"]: other["logprob"] for other in (*likeliest, drawn)})
            found["text_offset"].append(one.start)
        return found
