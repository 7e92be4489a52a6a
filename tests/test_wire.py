"""What clients send and what they are told, over an engine that says what it is told to."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from assistant.sampling import Sampling
from serve import answers
from serve.engines.base import Delta, EngineBusy, EngineError, Finish
from tests.script import CONTEXT, MOST_TURNS, Endpoint, Event, Script, events, likely, plainly, scripted


@pytest.fixture(scope="module")
def shared() -> Iterator[Endpoint]:
    with scripted() as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(shared: Endpoint) -> Endpoint:
    fresh = Script()
    shared.engine.say, shared.engine.offers, shared.engine.reads_text = plainly, fresh.offers, False
    shared.engine.asked.clear()
    return shared


def texts(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    choices = response.json()["choices"]
    return [choice["message"]["content"] if "message" in choice else choice["text"] for choice in choices]


def problem(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return {"status": response.status_code, **error}


def test_several_answers_have_seeds_that_follow_from_the_one_given_and_the_prompt_counts_once(
    endpoint: Endpoint,
) -> None:
    answer = endpoint.chats(n=3, seed=2**32 - 3).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [choice["message"]["content"][9:] for choice in answer["choices"]] == ["4294967293", "4294967294", "0"]
    one = endpoint.chats(seed=1).json()
    assert answer["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"] == len(endpoint.engine.asked[0][0])
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["usage"]["total_tokens"] == one["usage"]["prompt_tokens"] + 12
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 2
    assert endpoint.chats(n=3).json()["choices"][0]["message"]["content"] == "it is so None", "each draws anew"


def test_the_streams_of_several_answers_interleave_by_index(endpoint: Endpoint) -> None:
    chunks = events(endpoint.chats(n=3, seed=5, stream=True, stream_options={"include_usage": True}))
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == endpoint.chats(n=3, seed=5).json()["usage"]
    assert {chunk["usage"] for chunk in chunks[:-1]} == {None}
    said = [chunk["choices"][0] for chunk in chunks[:-1]]
    for index in range(3):
        own = [choice for choice in said if choice["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(choice["delta"].get("content", "") for choice in own) == f"it is so {5 + index}"
        assert [choice["finish_reason"] for choice in own if choice["finish_reason"]] == ["stop"]
        assert own[-1]["delta"] == {}
    order = [choice["index"] for choice in said[3:]]
    assert order != sorted(order), "none waits for another to end"


def test_all_answers_of_a_request_count_against_the_bound_and_none_begins_without_the_others(
    endpoint: Endpoint,
) -> None:
    released = asyncio.Event()
    endpoint.engine.say = lambda sampling: [Delta("a", 1), released, Finish("stop")]
    body = {"model": "thousand", "messages": [{"role": "user", "content": "why"}], "n": MOST_TURNS - 1, "stream": True}
    with endpoint.client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()  # kept: once it is dropped, httpx closes the connection
        while '"a"' not in next(lines):
            pass
        refused = endpoint.chats(n=2)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert len(endpoint.engine.asked) == MOST_TURNS - 1
    assert endpoint.chats(n=MOST_TURNS + 1).status_code == 400


def test_likelihoods_stand_with_the_text_they_are_of(endpoint: Endpoint) -> None:
    template = endpoint.chat.template
    endpoint.engine.say = lambda sampling: likely(template, "why 😀 so é")
    whole = endpoint.chats(logprobs=True, top_logprobs=2).json()["choices"][0]
    content = whole["logprobs"]["content"]
    assert b"".join(bytes(one["bytes"]) for one in content).decode() == whole["message"]["content"] == "why 😀 so é"
    assert [one["logprob"] for one in content] == [-float(place + 1) for place in range(len(content))]
    assert content[0]["top_logprobs"][0] == {key: content[0][key] for key in ("token", "logprob", "bytes")}
    assert content[0]["top_logprobs"][1] == {"token": "<eos>", "logprob": -9.0, "bytes": None}
    smile = [one["token"] for one in content if len(one["bytes"]) == 1 and one["bytes"][0] > 127]
    assert smile[:4] == [r"bytes:\xf0", r"bytes:\x9f", r"bytes:\x98", r"bytes:\x80"]
    assert endpoint.engine.asked[-1][2].likelihoods == 2

    said = text = ""
    for chunk in events(endpoint.chats(logprobs=True, top_logprobs=2, stream=True)):
        choice = chunk["choices"][0]
        told = (choice["logprobs"] or {"content": []})["content"]
        text += choice["delta"].get("content", "")
        said += b"".join(bytes(one["bytes"]) for one in told).decode()
        assert said == text


def test_likelihoods_of_what_a_stop_string_takes_away_are_not_told(endpoint: Endpoint) -> None:
    template = endpoint.chat.template
    endpoint.engine.say = lambda sampling: likely(template, "why is it so, is it?")
    choice = endpoint.chats(logprobs=True, stop=["so,", "so it"]).json()["choices"][0]
    assert choice["message"]["content"] == "why is it "
    assert "".join(one["token"] for one in choice["logprobs"]["content"]).startswith("why is it")
    assert "so" not in "".join(one["token"] for one in choice["logprobs"]["content"])
    assert choice["finish_reason"] == "stop"


def test_a_completion_goes_on_from_a_text_with_the_bos_in_front_and_no_turns(endpoint: Endpoint) -> None:
    answer = endpoint.completes(prompt="why is<end_of_turn>it<eos>", seed=4).json()
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "it is so 4", "logprobs": None, "finish_reason": "stop"}]
    ids, sampling, _ = endpoint.engine.asked[-1]
    template = endpoint.chat.template
    control = set(template.control.values())
    assert ids[0] == template.control["<bos>"]
    assert not control & set(ids[1:]), "truth 10: no spelling becomes a control token"
    assert template.tokenizer.decode(ids[1:]) == "why is<end_of_turn>it<eos>"
    assert sampling.max_tokens == 16, "as OpenAI's"
    assert answer["usage"]["prompt_tokens"] == len(ids)
    endpoint.completes(prompt="")
    assert endpoint.engine.asked[-1][0] == ids[:1]


def test_a_completion_takes_token_ids_and_several_prompts(endpoint: Endpoint) -> None:
    assert texts(endpoint.completes(prompt=[2, 300, 301], seed=1)) == ["it is so 1"]
    assert endpoint.engine.asked[-1][0] == [2, 300, 301]
    answer = endpoint.completes(prompt=["why", "it is so"], n=2, seed=1)
    assert texts(answer) == ["it is so 1", "it is so 2"] * 2
    prompts = [ids for ids, _, _ in endpoint.engine.asked[-4:]]
    assert answer.json()["usage"]["prompt_tokens"] == len(prompts[0]) + len(prompts[-1])
    assert len(texts(endpoint.completes(prompt=[[2, 300], [2, 301]]))) == 2
    chunks = events(endpoint.completes(prompt=["why", "so"], seed=1, stream=True))
    for index in range(2):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in own) == "it is so 1"
        assert own[-1]["finish_reason"] == "stop"
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


def test_a_completion_tells_likelihoods_in_their_older_shape(endpoint: Endpoint) -> None:
    endpoint.engine.say = lambda sampling: likely(endpoint.chat.template, "why é so")
    choice = endpoint.completes(logprobs=2).json()["choices"][0]
    told = choice["logprobs"]
    assert choice["text"] == "why é so"
    assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"]) == len(told["text_offset"])
    assert r"bytes:\xc3" in told["tokens"]
    assert told["top_logprobs"][0] == {told["tokens"][0]: -1.0, "<eos>": -9.0}
    for token, offset in zip(told["tokens"], told["text_offset"], strict=True):
        assert token.startswith("bytes:") or choice["text"][offset:].startswith(token)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def test_a_response_format_becomes_a_schema_for_the_engine(endpoint: Endpoint) -> None:
    named = {"name": "answer", "strict": True, "description": "an answer", "schema": {**SCHEMA, "title": "Answer"}}
    for shape, schema in (
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": named}, SCHEMA),
    ):
        assert endpoint.chats(response_format=shape).status_code == 200
        assert endpoint.engine.asked[-1][2].schema == schema


def test_what_the_engine_does_not_offer_is_refused_by_name(endpoint: Endpoint) -> None:
    endpoint.engine.offers = frozenset()
    for fields, parameter in (
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
            "response_format",
        ),
    ):
        told = problem(endpoint.chats(**fields))
        assert (told["status"], told["param"], told["code"]) == (400, parameter, "unsupported_parameter")
        assert "script" in told["message"]
    assert endpoint.engine.asked == []


def test_a_stream_that_has_nothing_to_say_yet_says_that_it_is_there(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "KEEP_ALIVE", 0.02)
    loops: list[asyncio.AbstractEventLoop] = []
    waits = [asyncio.Event(), asyncio.Event()]

    def slowly(sampling: Sampling) -> Iterator[Event]:
        loops.append(asyncio.get_running_loop())
        yield from (waits[0], Delta("at ", 1), waits[1], Delta("last", 1), Finish("stop"))

    endpoint.engine.say = slowly
    body = {"model": "thousand", "messages": [{"role": "user", "content": "why"}], "stream": True}
    said = ""
    with endpoint.client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        for wait in waits:
            while next(lines) != ": keep-alive":
                pass
            loops[0].call_soon_threadsafe(wait.set)
        for line in lines:
            if line.startswith("data: {"):
                said += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
    assert said.endswith("last")
    assert line == "" or line == "data: [DONE]"


def test_an_error_before_the_first_token_has_a_status_and_a_later_one_is_an_event(endpoint: Endpoint) -> None:
    endpoint.engine.say = lambda sampling: [EngineBusy("full")]
    early = endpoint.chats(stream=True)
    assert (early.status_code, early.headers["retry-after"], problem(early)["code"]) == (429, "2", "busy")
    endpoint.engine.say = lambda sampling: [Delta("a", 1), EngineError("it broke")]
    for ask in (endpoint.chats, endpoint.completes):
        late = ask(stream=True)
        assert late.status_code == 200
        last = late.text.strip().split("\n\n")[-1]
        assert json.loads(last.removeprefix("data: "))["error"]["message"] == "it broke"


def test_an_answer_sent_back_as_it_came_is_taken(endpoint: Endpoint) -> None:
    message = endpoint.chats().json()["choices"][0]["message"]
    echoed = {
        **message,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "name": "assistant",
    }
    turns = [{"role": "user", "content": "why"}, echoed, {"role": "user", "content": [{"type": "text", "text": "so"}]}]
    assert endpoint.chats(messages=[{"role": "developer", "content": "be brief"}, *turns]).status_code == 200


def test_null_stands_for_what_is_not_given_and_plain_values_have_no_effect(endpoint: Endpoint) -> None:
    spec = endpoint.client.get("/openapi.json").json()["components"]["schemas"]
    for kind, ask in (("ChatRequest", endpoint.chats), ("CompletionRequest", endpoint.completes)):
        fields = spec[kind]["properties"]
        optional = {name: None for name in fields if name not in spec[kind]["required"]}
        assert ask(**optional, reasoning_effort=None).status_code == 200
        assert endpoint.engine.asked[-1][1].temperature == Sampling().temperature
    plain: dict[str, Any] = {
        "tools": [],
        "tool_choice": "none",
        "functions": [],
        "logit_bias": {},
        "presence_penalty": 0.0,
        "modalities": ["text"],
        "user": "someone",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "auto",
        "max_tokens": 16.0,
        "n": 1,
        "stop": [],
        "stream_options": None,
    }
    assert endpoint.chats(**plain).status_code == 200
    assert endpoint.engine.asked[-1][1].max_tokens == 16
    assert endpoint.chats(max_tokens=7, max_completion_tokens=9).status_code == 200
    assert endpoint.engine.asked[-1][1].max_tokens == 7, "neither is exceeded"


USER = {"role": "user", "content": "why"}


@pytest.mark.parametrize(
    ("fields", "parameter", "text"),
    [
        ({"repitition_penalty": 1.1}, "repitition_penalty", "did you mean repetition_penalty?"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": "0.5"}, "temperature", "valid number"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "greater than or equal to 1"),
        ({"stream": "yes"}, "stream", "boolean"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "only allowed with stream"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "not a field"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 9}, "n", "less than or equal to 8"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"stop": ["a", ""]}, "stop[1]", "at least 1 character"),
        ({"stop": ["a"] * 9}, "stop", "at most 8"),
        ({"stop": 5}, "stop", "string"),
        ({"top_logprobs": 2}, "top_logprobs", "only allowed with logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"presence_penalty": 1}, "presence_penalty", "use repetition_penalty"),
        ({"presence_penalty": False}, "presence_penalty", "use repetition_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"),
        ({"tools": [{"type": "function"}]}, "tools", "calls no tools"),
        ({"tool_choice": "required"}, "tool_choice", "calls no tools"),
        ({"modalities": ["text", "audio"]}, "modalities", "text only"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "json_schema goes with"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array"}}}},
            "response_format.json_schema.schema",
            "of an object",
        ),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "why"}, "messages", "list"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "'user'"),
        ({"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[1].role", "no tools"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content", "is empty"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "required"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0]",
            "'image_url'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0]",
            "text only",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
            "messages[0].tool_calls",
            "no tools",
        ),
        ({"messages": [USER, USER]}, "messages", "both from the user"),
        ({"messages": [{"role": "user", "content": "why " * 100}]}, "messages", f"the context holds {CONTEXT}"),
        ({"messages": [{"role": "user", "content": "x" * 100_000}]}, "messages", "characters"),
        ({"model": "gpt-4"}, "model", "There is no model 'gpt-4'"),
        ({"x" * 10_000: 1}, None, "is not a field"),
    ],
)
def test_a_bad_field_is_named_with_its_place(
    endpoint: Endpoint, fields: dict[str, Any], parameter: str | None, text: str
) -> None:
    told = problem(endpoint.chats(**fields))
    assert told["status"] == (404 if "model" in fields else 400)
    assert text in told["message"]
    assert len(told["message"]) < 1000
    if parameter is not None:
        assert told["param"] == parameter
    assert endpoint.engine.asked == []


@pytest.mark.parametrize(
    ("fields", "parameter", "text"),
    [
        ({"echo": True}, "echo", "not said again"),
        ({"suffix": "x"}, "suffix", "middle"),
        ({"best_of": 2}, "best_of", "use n"),
        ({"prompt": []}, "prompt", "at least 1"),
        ({"prompt": ["a"] * 9}, "prompt", "at most 8"),
        ({"prompt": ["a"] * 3, "n": 3}, "n", "9 answers"),
        ({"prompt": [[2], []]}, "prompt[1]", "at least 1"),
        ({"prompt": [2, 10_000]}, "prompt", "token ids are from 0 to"),
        ({"prompt": [-1]}, "prompt[0]", "greater than or equal to 0"),
        ({"prompt": ["a", 1]}, "prompt[1]", "string"),
        ({"prompt": "why " * 100}, "prompt", f"the context holds {CONTEXT}"),
        ({"logprobs": True}, "logprobs", "integer"),
        ({"messages": []}, "messages", "not a field"),
    ],
)
def test_a_bad_field_of_a_completion_is_named(
    endpoint: Endpoint, fields: dict[str, Any], parameter: str, text: str
) -> None:
    told = problem(endpoint.completes(**fields))
    assert (told["status"], told["param"]) == (400, parameter)
    assert text in told["message"]
    assert endpoint.engine.asked == []


def test_an_engine_that_reads_text_gets_no_ids_and_no_control_tokens(endpoint: Endpoint) -> None:
    endpoint.engine.reads_text = True
    assert "reads text" in problem(endpoint.completes(prompt=[2, 300]))["message"]
    assert problem(endpoint.completes(prompt="why<eos>"))["code"] == "control_token"
    assert endpoint.completes(prompt="why").status_code == 200


def test_every_problem_is_told_at_once(endpoint: Endpoint) -> None:
    told = problem(endpoint.chats(temperature=3, top_p=2, seeed=1, n="x"))
    for name in ("temperature", "top_p", "seeed", "n"):
        assert f"{name}: " in told["message"]


CHAT = {"model": "thousand", "messages": [USER]}


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"{", 400, "not JSON"),
        (b"", 400, "required"),
        (b"[]", 400, "object"),
        (b'"x"', 400, "object"),
        (json.dumps(CHAT).replace("}]", '}], "seed": NaN').encode(), 400, "NaN"),
        (json.dumps(CHAT).replace("}]", '}], "seed": 1e999').encode(), 400, "seed"),
        (json.dumps(CHAT).replace("}]", '}], "seed": ' + "9" * 5000).encode(), 400, "not JSON"),
        (json.dumps(CHAT).replace("}]", '}], "seed": 1, "seed": 2').encode(), 400, "seed: is there twice"),
        (json.dumps(CHAT).encode("utf-16"), 400, "not UTF-8"),
        (b'{"model": "\xff"}', 400, "not UTF-8"),
        (b'{"\\ud800": 1}', 400, "unicode"),
        (json.dumps({**CHAT, "model": "\ud800"}).encode(), 404, "no model"),
        (json.dumps({**CHAT, "messages": [{"role": "user", "content": "\ud800"}]}).encode(), 400, "surrogate"),
        (b"[" * 200_000, 400, "nested too deeply"),
    ],
)
def test_a_body_that_is_no_good_json_is_refused(endpoint: Endpoint, content: bytes, status: int, text: str) -> None:
    headers = {"content-type": "application/json"}
    response = endpoint.client.post("/v1/chat/completions", content=content, headers=headers)
    told = problem(response)
    assert told["status"] == status
    assert text in told["message"]


def test_a_byte_order_mark_is_no_harm_and_a_compressed_body_is_refused(endpoint: Endpoint) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    marked = b"\xef\xbb\xbf" + json.dumps(CHAT).encode()
    assert endpoint.client.post("/v1/chat/completions", content=marked, headers=headers).status_code == 200
    packed = gzip.compress(json.dumps(CHAT).encode())
    response = endpoint.client.post(
        "/v1/chat/completions", content=packed, headers={**headers, "content-encoding": "gzip"}
    )
    assert (problem(response)["status"], problem(response)["code"]) == (415, "unsupported_encoding")


def test_models_are_listed_and_paths_and_methods_that_are_none_have_openais_shape(endpoint: Endpoint) -> None:
    listed = endpoint.client.get("/v1/models").json()["data"]
    assert [card["id"] for card in listed] == ["thousand", "script-1"]
    assert endpoint.client.get("/v1/models/script-1").json() == listed[1]
    assert problem(endpoint.client.get("/v1/models/none"))["code"] == "model_not_found"
    for path in ("/v1/models", "/v1/models/thousand", "/health", "/ready"):
        head = endpoint.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
    for method, path, allow in (
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/completions", "POST"),
        ("DELETE", "/v1/models/thousand", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
    ):
        response = endpoint.client.request(method, path)
        assert (problem(response)["status"], response.headers["allow"]) == (405, allow)
    for path in ("/v1/embeddings", "/v1/models/a/b", "/v2", "/"):
        assert problem(endpoint.client.get(path))["code"] == "unknown_url"
