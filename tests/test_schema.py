"""JSON schemas of requests: what comes through says no more than what was sent, has bounds, and the rest is named."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from assistant.base_model import Base
from assistant.gguf_write import write_gguf
from assistant.sampling import Sampling
from assistant.template import Template
from serve import schema
from serve.engines.base import Delta, Finish, FinishReason, Wanted
from serve.engines.llama_cpp import LlamaCpp
from serve.schema import bounded


def of(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


class Place(BaseModel):
    """A place."""

    name: str = Field(description="What it is called.", min_length=1)
    kind: Literal["city", "river"]


class Trip(BaseModel):
    model_config = ConfigDict(extra="forbid")

    places: list[Place] = Field(max_length=3)
    days: int = Field(ge=1, lt=30)
    note: str | None = None
    prices: dict[str, float] = {}


def test_a_pydantic_model_comes_through_without_what_says_nothing() -> None:
    place = {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1}, "kind": {"enum": ["city", "river"]}},
        "required": ["name", "kind"],
        "additionalProperties": False,
    }
    assert bounded(Trip.model_json_schema()) == {
        "type": "object",
        "properties": {
            "places": {"type": "array", "items": place, "maxItems": 3},
            "days": {"type": "integer", "minimum": 1, "maximum": 29},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "prices": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "required": ["places", "days"],
        "additionalProperties": False,
    }


def deep(levels: int) -> dict[str, Any]:
    return reduce(lambda inner, _: of({"a": inner}), range(levels), {"type": "string"})


def doubling(levels: int) -> dict[str, Any]:
    """References that are put in twice each, so that they double at every level."""
    names = {f"n{level}": of({"a": ref(level + 1), "b": ref(level + 1)}) for level in range(levels)}
    return {"$ref": "#/$defs/n0", "$defs": {**names, f"n{levels}": {"type": "null"}}}


def ref(level: int) -> dict[str, str]:
    return {"$ref": f"#/$defs/n{level}"}


HOSTILE: list[tuple[Any, str]] = [
    ({"type": "array"}, "of an object"),
    ({}, "type must be one of object"),
    ({"type": ["object", []]}, "type must be one of"),
    (of({"a": {}}), "properties.a.type must be"),
    (of({"a": True}), "properties.a is no schema"),
    (of({"a": {"type": "string", "pattern": "(a*)*$"}}), "properties.a.pattern is not supported"),
    (of({"a": {"type": "string", "format": "email"}}), "properties.a.format must be one of date"),
    (of({"a": {"type": "string", "format": ["date"]}}), "properties.a.format must be one of date"),
    (of({"a": {"type": "number", "minimum": 0}}), "properties.a.minimum is not supported"),
    (of({"a": {"type": "integer", "minimum": 0.5}}), "properties.a.minimum must be a whole number"),
    (of({"a": {"type": "integer", "minimum": 3, "maximum": 2}}), "properties.a.minimum is above maximum"),
    (of({"a": {"type": "integer", "minimum": -(10**30)}}), "properties.a.minimum must be a whole number"),
    (of({"a": {"type": "integer", "minimum": True}}), "properties.a.minimum must be a whole number"),
    (of({"a": {"type": "array", "items": {"type": "null"}, "maxItems": 10**9}}), "maxItems must be a whole number"),
    (of({"a": {"type": "array", "minItems": 3}}), "properties.a.minItems is not supported"),
    (of({"a": {"type": "array", "items": [{"type": "null"}]}}), "properties.a.items is no schema"),
    (of({"a": {"type": "string", "maxLength": 10**9}}), "maxLength must be a whole number"),
    (of({"a": {"enum": []}}), "properties.a.enum must be a list"),
    (of({"a": {"enum": [{"x": 1}]}}), "only text, numbers"),
    (of({"a": {"type": "string", "enum": ["x", 1]}}), "not of its type"),
    (of({"a": {"enum": [str(number) for number in range(1000)]}}), "alternatives at one place"),
    (of({"a": {"enum": ["x" * 100_000]}}), "characters"),
    (of({"a": {"const": "\ud800"}}), "surrogate"),
    (of({"a": {"anyOf": [{"type": "string"}] * 129}}), "alternatives at one place"),
    (of({"a": {"anyOf": [{"type": "string"}] * 1000}}), "more than 200 parts"),
    (of({f"p{number}": {"type": "null"} for number in range(1000)}), "more than 200 parts"),
    (of({f"p{number}": {"type": "null"} for number in range(150)}), "alternatives at one place"),
    (of({"x" * 100_000: {"type": "null"}}), "characters"),
    (of({"x" * 100: {"type": "null"}}), "1 to 64 printable"),
    (of({"a\n": {"type": "null"}}), "1 to 64 printable"),
    (of({"": {"type": "null"}}), "1 to 64 printable"),
    (of({"a": {"type": "null"}}, required=["b"]), "required must be a list of names"),
    (of({"a": {"type": "null"}}, required=[["a"]]), "required must be a list of names"),
    (of({"a": {"type": "null"}}, patternProperties={}), "patternProperties is not supported"),
    (of({"a": {"allOf": [{"type": "string"}]}}), "type must be one of"),
    (of({"a": {"type": "string", "not": {}}}), "properties.a.not is not supported"),
    (of({"a": {"$ref": "http://127.0.0.1/x.json"}}), "properties.a.$ref must be a definition of this schema"),
    (of({"a": {"$ref": "#/properties/a"}}), "properties.a.$ref must be a definition"),
    (of({"a": {"$ref": "#/$defs/b"}}), "there is no #/$defs/b"),
    (of({"a": {"$ref": 5}}), "must be a definition"),
    (of({"a": {"$ref": "#/$defs/b", "type": "string"}}), "properties.a.type is not supported"),
    ({**of({"a": ref(0)}), "$defs": {"n0": of({"b": ref(0)})}}, "a schema that holds itself"),
    ({**of({"a": ref(0)}), "$defs": {"n0": ref(1), "n1": ref(0)}}, "a schema that holds itself"),
    (doubling(9), "more than 200 parts"),
    (deep(11), "more than 10 levels"),
    (deep(200), "more than 10 levels"),
    ([], "no schema"),
]


@pytest.mark.parametrize(("sent", "text"), HOSTILE, ids=[text for _, text in HOSTILE])
def test_what_cannot_be_kept_or_could_do_harm_is_refused_by_name(sent: Any, text: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError) as refused:
        bounded(sent)
    assert text in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert time.process_time() - began < 0.5


def test_a_schema_at_its_bounds_comes_through() -> None:
    for sent in (deep(9), doubling(5), of({"a": {"enum": list(range(128))}})):
        found = bounded(sent)
        assert bounded(found) == found


KEYWORDS = sorted(
    {name for names in schema.KEYWORDS.values() for name in names} | {"type", "enum", "const", "anyOf", "title"}
)
VALUES = st.none() | st.booleans() | st.integers(-3, 200) | st.floats(allow_nan=False) | st.text(max_size=3)
KINDS = st.sampled_from(sorted(schema.KEYWORDS))
ANYTHING = st.recursive(
    VALUES | KINDS | st.lists(KINDS, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYWORDS) | st.text(max_size=3), inner, max_size=4)
        | st.fixed_dictionaries({"type": KINDS}, optional={name: inner for name in KEYWORDS if name != "type"})
        | st.builds(
            lambda names: of(names, required=[*names][:2]), st.dictionaries(st.text(max_size=4), inner, max_size=4)
        )
    ),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(sent=ANYTHING)
def test_anything_at_all_is_a_schema_with_bounds_or_a_sentence(sent: Any) -> None:
    try:
        found = bounded(sent)
    except ValueError as error:
        assert type(error) is ValueError and str(error)
        return
    assert bounded(found) == found, "nothing is left to cut down"
    assert set(found) <= {"type", "properties", "required", "additionalProperties"}
    json.dumps(found, allow_nan=False).encode()


Says = Callable[[dict[str, Any], int], tuple[str, FinishReason]]


@pytest.fixture(scope="module")
def says(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Says]:
    """What llama.cpp says for a schema and a seed, with a tiny model that knows nothing."""
    gguf = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    template = Template.load(tiny_llama)
    write_gguf(Base("tiny", "", None, tiny_llama), None, template, gguf)
    engine = LlamaCpp(gguf, context=256, slots=1, threads=1)
    prompt = template.continuation("so")
    with asyncio.Runner() as runner:

        async def ask(wanted: Wanted, sampling: Sampling) -> tuple[str, FinishReason]:
            said = [event async for event in engine.stream(prompt, sampling, wanted)]
            assert isinstance(said[-1], Finish)
            return "".join(event.text for event in said if isinstance(event, Delta)), said[-1].reason

        yield lambda sent, seed: runner.run(
            ask(Wanted(schema=bounded(sent)), Sampling(seed=seed, temperature=2, max_tokens=120))
        )
        runner.run(engine.close())


CLOSED = st.recursive(
    st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")])
    | st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, st.integers(-99, 99), st.integers(0, 9))
    | st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, st.integers(0, 9), st.integers(0, 9))
    | st.builds(lambda form: {"type": "string", "format": form}, st.sampled_from(schema.FORMATS))
    | st.builds(lambda values: {"enum": values}, st.lists(st.text(max_size=5) | st.integers() | st.booleans() | st.none(), min_size=1)),
    lambda inner: (
        st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda items, most: {"type": "array", "items": items, "minItems": 1, "maxItems": most}, inner, st.integers(1, 4))
        | st.builds(lambda values: {"type": "object", "additionalProperties": values}, inner)
        | st.dictionaries(st.text(min_size=1, max_size=5).filter(str.isprintable), inner, max_size=4).flatmap(
            lambda names: st.builds(lambda count: of(names, required=[*names][:count]), st.integers(0, 4))
        )
    ),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True)
@given(part=CLOSED, seed=st.integers(0, 99))
def test_what_llama_cpp_says_fits_the_schema_that_was_sent(says: Says, part: dict[str, Any], seed: int) -> None:
    sent = of({"a": part}, required=["a"])
    text, reason = says(sent, seed)
    if reason == "stop":
        # Any number is as good as another here, and 1e999 is one that Python cannot hold.
        jsonschema_rs.validate(sent, json.loads(text, parse_float=lambda digits: 0.5))
    else:
        assert text.startswith('{"a": ')
