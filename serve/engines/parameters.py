"""What each of our sampling parameters becomes in each engine: the names as data, and what is special about them.

docs/serving.md shows `markdown()`. A value outside its range is refused before any engine sees it (assistant/sampling.py).
`stop` is nobody's: serve.chat applies it to every engine alike, so that not even half a stop string is shown.
"""

import json
import os
from typing import Any, Literal

from assistant.sampling import Sampling

Column = Literal["llama.cpp", "transformers", "TGI", "vLLM", "llama-server", "transformers serve"]

_PLAIN = {name: name for name in ("max_tokens", "temperature", "top_p", "repetition_penalty", "seed")}

FIELDS: dict[Column, dict[str, str]] = {
    "llama.cpp": {**_PLAIN, "max_tokens": "n_predict", "repetition_penalty": "repeat_penalty"},
    "transformers": {},
    "TGI": {**_PLAIN, "max_tokens": "max_new_tokens"},
    "vLLM": _PLAIN,
    "llama-server": {**_PLAIN, "repetition_penalty": "repeat_penalty"},
    "transformers serve": {**_PLAIN, "max_tokens": "max_new_tokens"},
}
"""Our parameter's name to the engine's; a parameter that is not there is applied here."""

PENALTY_WINDOW = 256
"""How many last tokens llama.cpp's repetition penalty looks at; it counts prompt tokens too."""

NEGLIGIBLE = 1e-8
"""Share of the likeliest token's probability below which llama.cpp leaves a token out before it sorts for the nucleus. Of a
vocabulary of 76,000 that is less than a thousandth of all probability in the worst case, and 3 millionths on the dev answers."""

PENALTY_COUNTS: dict[Column, str] = {
    "llama.cpp": f"the last {PENALTY_WINDOW} tokens, the prompt's too",
    "transformers": "the answer's tokens, never the stop token",
    "TGI": "prompt and answer",
    "vLLM": "prompt and answer",
    "llama-server": f"the last {PENALTY_WINDOW} tokens, the prompt's too",
    "transformers serve": "prompt and answer",
}
"""Which tokens the repetition penalty counts."""


def _named(column: Column, sampling: Sampling) -> dict[str, Any]:
    values = sampling.model_dump(exclude={"stop"}, exclude_none=True)
    return {FIELDS[column][name]: value for name, value in values.items()}


def _is_greedy(sampling: Sampling) -> bool:
    """A nucleus of nothing still has its likeliest token; TGI and vLLM refuse to be asked for one."""
    return sampling.temperature == 0 or sampling.top_p == 0


def llama_cpp(sampling: Sampling, column: Column = "llama.cpp") -> dict[str, Any]:
    """Fields for llama.cpp's server."""
    return {
        "seed": int.from_bytes(os.urandom(4), "little") % (2**32 - 1),
        **_named(column, sampling),
        **_llama_cpp_samplers(sampling),
        "repeat_last_n": PENALTY_WINDOW,
    }


def _llama_cpp_samplers(sampling: Sampling) -> dict[str, Any]:
    """The order of transformers and of the paper (penalty, temperature, nucleus), without work for nothing over the whole
    vocabulary: the likeliest token alone needs no probabilities, and the nucleus is sought among the tokens left by NEGLIGIBLE."""
    if _is_greedy(sampling):
        return {"samplers": ["penalties", "top_k"], "top_k": 1}
    if sampling.top_p == 1:
        return {"samplers": ["penalties", "temperature"]}
    return {"samplers": ["penalties", "temperature", "min_p", "top_p"], "min_p": NEGLIGIBLE}


def tgi(sampling: Sampling) -> dict[str, Any]:
    """Fields for text-generation-inference, which takes a temperature above 0 and a top_p between 0 and 1, both exclusive."""
    fields = {**_named("TGI", sampling), "do_sample": not _is_greedy(sampling)}
    if _is_greedy(sampling):
        del fields["temperature"], fields["top_p"]
    elif sampling.top_p == 1:
        del fields["top_p"]
    return fields


def vllm(sampling: Sampling, stop_id: int) -> dict[str, Any]:
    """Fields for vLLM's completions. `top_k` and `min_p` are given because vLLM takes what is not from the model's own defaults."""
    fields = {**_named("vLLM", sampling), "top_k": -1, "min_p": 0, "stop_token_ids": [stop_id]}
    if _is_greedy(sampling):
        fields |= {"temperature": 0, "top_p": 1}
    return fields


def llama_server(sampling: Sampling, stop_id: int) -> dict[str, Any]:
    """Fields for the OpenAI route of llama.cpp's server, which stops where its GGUF file says."""
    return llama_cpp(sampling, "llama-server")


def transformers_serve(sampling: Sampling, stop_id: int) -> dict[str, Any]:
    """Fields for `transformers serve`, which refuses those it does not know but takes a whole generation configuration."""
    config = {**_named("transformers serve", sampling), "do_sample": not _is_greedy(sampling)}
    config |= {"top_k": 0, "eos_token_id": stop_id}
    seed = {"seed": config.pop("seed")} if "seed" in config else {}
    if _is_greedy(sampling):
        del config["temperature"], config["top_p"], config["top_k"]
    return {"generation_config": json.dumps(config), **seed}


def _range(name: str) -> str:
    """A parameter's range, as Sampling checks it."""
    bounds = Sampling.model_json_schema()["properties"][name]
    bounds = next((kind for kind in bounds.get("anyOf", ()) if "minimum" in kind), bounds)
    if name == "stop":
        return f"up to {bounds['maxItems']} texts"
    return f"{bounds['minimum']:g} to {bounds['maximum']}"


def markdown() -> str:
    """The table for people."""
    columns = list(FIELDS)
    rows = [["parameter", "range", *columns], ["---"] * (len(columns) + 2)]
    for name in (*_PLAIN, "stop"):
        cells = [f"`{FIELDS[column][name]}`" if name in FIELDS[column] else "here" for column in columns]
        rows.append([f"`{name}`", _range(name), *cells])
    rows.append(["the penalty counts", "", *(PENALTY_COUNTS[column] for column in columns)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
