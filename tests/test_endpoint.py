"""A chat model at an endpoint is a system like any other, and what goes wrong there is told and never scored."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assistant import settings
from evaluation import asking, endpoint
from tests.answering import answering
from tests.chatting import Answer, chatting, completion
from tests.conftest import Command


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    lines = [
        {"id": "tea", "messages": [{"role": "user", "content": "Name a drink"}], "checks": {"contains_any": ["tea"]}},
        {"id": "cat", "messages": [{"role": "user", "content": "Name a pet"}], "checks": {"contains_any": ["cat"]}},
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture
def dev(thousand: Command, registry: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`thousand evaluate dev` with an endpoint beside a release that says tea to all."""
    answering(monkeypatch, first=lambda prompt: "tea")
    monkeypatch.setattr(endpoint, "RETRIES", 1)

    def run(*endpoints: str, options: tuple[object, ...] = ()) -> Any:
        named = [part for one in endpoints for part in ("--endpoint", one)]
        return thousand("evaluate", "dev", *named, "--prompts", prompts, *options)

    return run


def test_an_endpoint_is_asked_beside_a_release_and_only_once(dev: Callable[..., Any], tmp_path: Path) -> None:
    with chatting(lambda asked: completion("a cat")) as server:
        result = dev(f"{server.url}#big/model", options=("--temperature", 0, "--page", tmp_path / "page.md"))
        assert result.code == 0, result.err
        head = result.out.splitlines()[0]
        assert f"model at {server.url[7:-3]}" in head
        assert "0.5 [0.0945, 0.905]" in result.out
        assert "> a cat" in (tmp_path / "page.md").read_text(encoding="utf-8")
        first, *asked = server.requests
        assert first["max_tokens"] == 1
        assert {request["messages"][-1]["content"] for request in asked} == {"Name a drink", "Name a pet"}
        wanted = {"model": "big/model", "temperature": 0, "top_p": 0.9, "max_tokens": 256, "seed": 0}
        assert {name: value for name, value in asked[0].items() if name != "messages"} == wanted
        again = dev(f"{server.url}#big/model", options=("--temperature", 0))
        assert again.out.splitlines()[0] == head
        assert len(server.requests) == 4, "one question to the server, and nothing asked twice"
        server.card["id"], server.card["revision"] = "big/model", "2"
        dev(f"{server.url}#big/model", options=("--temperature", 0))
        assert len(server.requests) == 7, "the server says that the model is another one"


def test_the_key_comes_from_the_environment_and_one_that_is_refused_is_named(
    dev: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-somebody-elses")
    with chatting(lambda asked: completion("a cat"), key="secret") as server:
        refused = dev(server.url)
        assert refused.code == 1
        assert f"{server.url} refuses the key; set THOUSAND_ENDPOINT_KEY to one it knows." in refused.err
        assert server.keys == {"Bearer none"}
        monkeypatch.setenv("THOUSAND_ENDPOINT_KEY", "secret")
        settings.settings.cache_clear()
        assert dev(server.url).code == 0
        assert "secret" not in "".join(
            file.read_text() for file in (settings.settings().home / "evaluations").glob("*")
        )


def test_a_server_that_is_not_there_or_lists_many_models_is_an_error_before_anything_is_asked(
    dev: Callable[..., Any],
) -> None:
    with chatting(lambda asked: completion("a cat"), models=("one", "two")) as server:
        result = dev(server.url)
        assert result.code == 1
        assert f"lists one, two; name the one to ask: {server.url}#MODEL" in result.err
        result = dev(f"{server.url}#theirs/one", f"{server.url}#ours/one")
        assert f"Two of the systems would both be called one at {server.url[7:-3]}; ask them one after" in result.err
    assert f"No server answers at {server.url}" in dev(server.url).err
    assert "is no address of an endpoint" in dev("http:///v1").err
    assert not (settings.settings().home / "evaluations").exists(), "the release was not asked either"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(404, '{"error": {"message": "no such model"}}'), "HTTP 404: "),
        (Answer(200, "<html>"), "what the server answered is no chat completion"),
        (Answer(200, "{"), "what the server answered is no chat completion"),
        (Answer(200, "[1]"), "what the server answered is no chat completion"),
        (Answer(200, '{"choices": []}'), "what the server answered is no chat completion"),
    ],
)
def test_a_server_that_does_not_chat_is_an_error_before_anything_is_asked(
    dev: Callable[..., Any], answer: Answer, said: str
) -> None:
    with chatting(lambda asked: answer) as server:
        result = dev(f"{server.url}#m")
        assert result.code == 1
        assert f"{server.url} does not chat with the model 'm': {said}" in result.err


def test_a_server_that_fails_at_a_prompt_gives_no_score_for_it(dev: Callable[..., Any]) -> None:
    def says(asked: str) -> Answer:
        if "drink" in asked:
            return Answer(400, '{"error": {"message": "too long"}}')
        return completion("half \ud83d") if "pet" in asked else completion("Hello")

    with chatting(says) as server:
        result = dev(server.url)
        assert result.code == 0
        assert "has no answer to 2 prompts, not scored: tea: HTTP 400" in result.out
        assert "too long" in result.out
        assert "cat: what the server answered is no chat completion" in result.out


def test_silence_is_named_and_fails(dev: Callable[..., Any]) -> None:
    with chatting(lambda asked: completion(None)) as server:
        result = dev(server.url)
        assert "said nothing to tea, cat, which counts as failed" in result.out


def test_an_answer_that_was_cut_has_not_stopped_and_one_that_was_filtered_is_none(
    dev: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "GIVE_UP", 1)  # a server that filters is not down

    def says(asked: str) -> Answer:
        return completion("cat", "content_filter" if "pet" in asked else "length")

    with chatting(says) as server:
        result = dev(server.url)
        assert "not scored: cat: the server broke off: content_filter" in result.out
        (row,) = [line for line in result.out.splitlines() if line.split()[:1] == ["stopped"]]
        assert row.split()[-3:] == ["0", "[0,", "0.793]"]


def test_a_server_that_is_busy_is_asked_again_when_it_says(dev: Callable[..., Any]) -> None:
    refused: list[str] = []

    def says(asked: str) -> Answer:
        if asked not in refused:
            refused.append(asked)
            return Answer(429, "{}", {"Retry-After": "0.01"})
        return completion("a cat")

    with chatting(says) as server:
        result = dev(server.url)
        assert result.code == 0, result.err
        assert "not scored" not in result.out
        assert refused == ["Hello", "Name a drink", "Name a pet"] or refused == ["Hello", "Name a pet", "Name a drink"]


def test_a_server_that_is_slow_is_not_waited_for_for_ever(
    dev: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def says(asked: str) -> Answer:
        if "drink" in asked:
            over.wait(30)
        return completion("a cat")

    monkeypatch.setattr(endpoint, "PATIENCE", 0.5)
    with chatting(says) as server:
        try:
            result = dev(server.url)
        finally:
            over.set()
    assert f"not scored: tea: {server.url} gave no answer within 0.5 seconds" in result.out


def test_a_penalty_cannot_be_told_to_an_endpoint(dev: Callable[..., Any]) -> None:
    with chatting(lambda asked: completion("a cat")) as server:
        assert (
            "--repetition-penalty cannot be told to an endpoint"
            in dev(server.url, options=("--repetition-penalty", 1.2)).err
        )
