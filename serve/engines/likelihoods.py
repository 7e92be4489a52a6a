"""Likelihoods as other servers tell them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from serve.engines.base import Likelihood, Wanted

if TYPE_CHECKING:
    from openai.types.completion_choice import Logprobs


def llama_cpp(told: Iterable[dict[str, Any]], text: str, wanted: Wanted) -> tuple[Likelihood, ...]:
    """llama.cpp's, of a piece of text: of a character that several tokens make, the last one's only, which then stands for all
    of it."""
    return tuple(
        Likelihood(
            one["id"],
            one["logprob"],
            tuple((other["id"], other["logprob"]) for other in one["top_logprobs"][: wanted.likelihoods]),
            text.encode() if one["token"] == text else None,
        )
        for one in told
    )


def vllm(told: "Logprobs | None", wanted: Wanted) -> tuple[Likelihood, ...]:
    """vLLM's, whose tokens are asked for as `token_id:5`; the drawn one is among the likeliest, whether it is one or not."""

    def number(name: str) -> int:
        return int(name.removeprefix("token_id:"))

    if told is None:
        return ()
    found = []
    for name, logprob, top in zip(told.tokens or (), told.token_logprobs or (), told.top_logprobs or (), strict=True):
        likeliest = sorted(((number(other), value) for other, value in (top or {}).items()), key=lambda one: -one[1])
        found.append(Likelihood(number(name), logprob, tuple(likeliest[: wanted.likelihoods])))
    return tuple(found)
