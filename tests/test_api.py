"""The HTTP layer over an engine that is told what to do: leaving clients, too many of them, failures, foreign pages."""

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.told import Told, body, told_app

MOST_TURNS = 4


@pytest.fixture
def served() -> Iterator[Told]:
    with told_app(most_turns=MOST_TURNS) as told:
        yield told


def test_truth_8_a_client_that_leaves_a_stream_frees_its_slot_at_once(served: Told) -> None:
    for _ in range(3 * MOST_TURNS):
        with served.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
            next(line for line in response.iter_lines() if "word" in line)
        assert served.engine.closed.acquire(timeout=2)


def test_truth_8_a_client_that_leaves_a_plain_request_frees_its_slot(served: Told) -> None:
    for _ in range(MOST_TURNS + 1):
        with pytest.raises(httpx.ReadTimeout):
            served.client.post("/v1/chat/completions", json=body(), timeout=0.3)
        assert served.engine.closed.acquire(timeout=3)


def test_more_turns_than_may_wait_are_told_when_to_try_again(served: Told) -> None:
    async def many() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=str(served.client.base_url), limits=limits, timeout=10) as client:
            requests = [client.build_request("POST", "/v1/chat/completions", json=body(stream=True)) for _ in range(12)]
            responses = await asyncio.gather(*[client.send(request, stream=True) for request in requests])
            for response in responses:
                if response.status_code != 200:
                    await response.aread()
                await response.aclose()
            return responses

    responses = asyncio.run(many())
    refused = [response for response in responses if response.status_code == 429]
    assert len(refused) == 12 - MOST_TURNS
    assert {response.headers["retry-after"] for response in refused} == {"2"}
    assert {response.json()["error"]["code"] for response in refused} == {"busy"}


def test_an_engine_that_fails_is_told_in_openais_shape_in_a_stream_and_apart(served: Told) -> None:
    served.engine.fail_after = 2
    plain = served.client.post("/v1/chat/completions", json=body())
    assert plain.status_code == 500
    assert plain.json()["error"]["code"] == "engine_error"
    with served.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert json.loads(lines[-1])["error"]["message"] == "it broke"
    assert "[DONE]" not in lines


def test_a_page_of_another_site_cannot_post(served: Told) -> None:
    foreign = served.client.post("/v1/chat/completions", json=body(), headers={"origin": "https://evil.example"})
    assert foreign.status_code == 403
    assert served.engine.began == 0
    own = served.client.get("/v1/models", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in own.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/nothing", 404),
        ("OPTIONS", "/v1/x/y", 404),
    ],
)
def test_wrong_methods_and_paths_have_openais_shape(served: Told, method: str, path: str, status: int) -> None:
    response = served.client.request(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"\\ud800": 1}', 400),
        (json.dumps(body(messages=[{"role": "user", "content": "\ud800"}])).encode(), 400),
        (json.dumps(body(messages=[{"role": "user", "content": "x" * 100_000}])).encode(), 400),
        (b" " * 3_000_000, 413),
    ],
)
def test_odd_bodies_are_refused_without_harm(served: Told, content: bytes, status: int) -> None:
    response = served.client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert served.client.get("/health").status_code == 200
