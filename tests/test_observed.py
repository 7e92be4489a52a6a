"""What is told of requests: metrics for Prometheus, a line each in the log; never what was said."""

import io
import itertools
import json
import logging
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from prometheus_client.parser import text_string_to_metric_families

from serve.keys import Keys
from serve.logs import log_printed_tracebacks, log_to
from tests.server import wait_until
from tests.test_keys import ALICE, keys_file
from tests.told import ToldEngine, body, told_app

SECRET = "the-word-that-nobody-else-says"


class Log:
    """What was logged so far."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self, path: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text().splitlines()]
        return [line for line in lines if path is None or line.get("path") == path]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def logging_to(stream: io.StringIO) -> Iterator[Log]:
    root, ours = logging.getLogger(), logging.getLogger("thousand")
    before = root.handlers[:], root.level, ours.level
    log_to(stream)
    try:
        yield Log(stream)
    finally:
        root.handlers[:], root.level, ours.level = before


@pytest.fixture
def log() -> Iterator[Log]:
    with logging_to(io.StringIO()) as found:
        yield found


CHAT = "/v1/chat/completions"


def request(**fields: Any) -> dict[str, Any]:
    return {**body(**fields), "messages": [{"role": "user", "content": SECRET}]}


def test_a_request_is_a_line_in_the_log_with_all_but_what_was_said(tmp_path: Path, log: Log) -> None:
    keys = Keys(file=keys_file(tmp_path, f"alice {ALICE}"))
    engine = ToldEngine(end_after=3, word="answerword ")
    with told_app(engine, keys=keys) as told:
        headers = {"Authorization": f"Bearer {ALICE}", "X-Request-ID": "from-the-client.7"}
        response = told.client.post(CHAT, json=request(), headers=headers)
        assert response.headers["x-request-id"] == "from-the-client.7"
    (line,) = log.lines(CHAT)
    assert {name: line[name] for name in line if name not in ("time", "seconds", "first_token_seconds")} == {
        "level": "info",
        "message": "request",
        "id": "from-the-client.7",
        "via": "api",
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "client": "127.0.0.1",
        "key": "alice",
        "release": "told",
        "prompt_tokens": response.json()["usage"]["prompt_tokens"],
        "cached_tokens": 3,
        "completion_tokens": 3,
        "finish_reason": "stop",
    }
    assert 0 < line["first_token_seconds"] <= line["seconds"] < 10
    for word in (SECRET, "answerword", ALICE):
        assert word not in log.text()


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "é", '"}'])
def test_an_id_that_is_not_short_and_plain_is_replaced(log: Log, given: str) -> None:
    with told_app(ToldEngine(end_after=1)) as told:
        response = told.client.get("/v1/models", headers={"X-Request-ID": given.encode()})
    assert len(response.headers["x-request-id"]) == 32
    assert log.lines()[0]["id"] == response.headers["x-request-id"]


def test_errors_and_clients_that_left_are_told_by_their_kind(log: Log) -> None:
    with told_app() as told:
        told.ask(temperature=9)
        told.client.get("/v1/nothing")
        with told.client.stream("POST", CHAT, json=request(stream=True)) as response:
            lines = response.iter_lines()
            assert any("word" in line for line in lines)
        wait_until(lambda: told.chat.answering == 0, "it is over")
        told.engine.fail_after = 2
        told.ask()
        with told.client.stream("POST", CHAT, json=request(stream=True)) as response:
            response.read()
        told.client.get("/health")
    found = [(line.get("status"), line.get("error"), line.get("finish_reason")) for line in log.lines()]
    assert found == [
        (400, "invalid_value", None),
        (404, "unknown_url", None),
        (200, None, "cancelled"),
        (500, "engine_error", "error"),
        (200, "engine_error", "error"),
    ]
    assert SECRET not in log.text()


@pytest.mark.parametrize("stream", [False, True])
def test_what_nobody_expected_is_a_500_with_the_id_and_a_traceback_without_words(log: Log, stream: bool) -> None:
    engine = ToldEngine(fail_after=2, failure=RuntimeError(f"cannot read {SECRET}"))
    with told_app(engine) as told:
        response = told.client.post(CHAT, json=request(stream=stream))
        wanted = response.headers["x-request-id"]
        assert response.status_code == (200 if stream else 500)
        last = json.loads(response.text.splitlines()[-2].removeprefix("data: ")) if stream else response.json()
        assert wanted in last["error"]["message"]
        assert last["error"]["code"] == "internal_error"
        assert "[DONE]" not in response.text
        wait_until(lambda: len(log.lines()) >= 2, "it is logged")
    failed, *_ = [line for line in log.lines() if "exception" in line]
    assert "RuntimeError" in failed["exception"]
    assert 'told.py", line' in failed["exception"]
    assert failed["id"] == wanted
    assert SECRET not in log.text()
    assert log.lines(CHAT)[0]["error"] == "internal_error"


@pytest.mark.parametrize("path", [CHAT, "/gradio_api/queue/join", "/login"])
def test_a_client_that_leaves_while_its_request_is_read_is_no_failure(tmp_path: Path, log: Log, path: str) -> None:
    keys = Keys(file=keys_file(tmp_path, f"alice {ALICE}")) if path == "/login" else None
    kind = "application/x-www-form-urlencoded" if path == "/login" else "application/json"
    with told_app(page=True, keys=keys) as told:
        url = told.client.base_url
        with socket.create_connection((url.host, url.port or 0)) as line:
            head = f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: {kind}\r\nContent-Length: 100\r\n\r\n"
            line.sendall(head.encode() + b'{"secret')
        wait_until(lambda: bool(log.lines(path)), "it is logged")
        assert told.client.get("/health").status_code == 200
    (seen,) = log.lines(path)
    assert seen["status"] == 499
    assert not [line for line in log.lines() if "exception" in line]


def test_on_a_terminal_a_line_is_for_a_person() -> None:
    with logging_to(Terminal()) as log, told_app(ToldEngine(end_after=2)) as told:
        told.ask()
        told.client.get("/v1/no%1B[31mthing")
    first, second = log.text().splitlines()
    assert "POST /v1/chat/completions 200 " in first
    assert "finish_reason=stop" in first
    assert r"GET /v1/no\x1b[31mthing 404 " in second, "no control character of a client reaches the terminal"


def test_metrics_tell_what_happened() -> None:
    with told_app(ToldEngine(end_after=5), most_turns=1) as told:
        usage = [told.ask().json()["usage"] for _ in range(3)]
        told.ask(model="other")
        told.client.post("/v1/embeddings", json={})
        told.client.get("/some/page")
        told.engine.end_after = None
        with told.client.stream("POST", CHAT, json=body(stream=True)) as response:
            lines = response.iter_lines()
            assert any("word" in line for line in lines)
            assert told.metrics()['thousand_turns{state="answering"}'] == 1
            told.ask()
        wait_until(lambda: told.chat.answering == 0, "it is over")
        found = told.metrics()
        told.client.get("/health")
        families = {family.name for family in text_string_to_metric_families(told.client.get("/metrics").text)}
    assert found['thousand_requests_total{route="/v1/chat/completions",status="200"}'] == 4
    assert found['thousand_requests_total{route="/v1/chat/completions",status="404"}'] == 1
    assert found['thousand_requests_total{route="/v1/chat/completions",status="429"}'] == 1
    assert found['thousand_requests_total{route="page",status="404"}'] == 1
    assert found['thousand_turns_ended_total{key="",outcome="stop",via="api"}'] == 3
    assert found['thousand_turns_ended_total{key="",outcome="cancelled",via="api"}'] == 1
    assert found['thousand_tokens_total{key="",kind="cached"}'] == 9
    assert found['thousand_tokens_total{key="",kind="prompt"}'] == 4 * usage[0]["prompt_tokens"]
    assert found['thousand_tokens_total{key="",kind="completion"}'] >= 3 * 5 + 1
    assert found["thousand_time_to_first_token_seconds_count"] == 4
    assert found["thousand_inter_token_seconds_count"] >= 3 * 4
    assert found['thousand_turns{state="answering"}'] == found['thousand_turns{state="waiting"}'] == 0
    assert found['thousand_errors_total{code="model_not_found"}'] == 1
    assert found['thousand_errors_total{code="busy"}'] == 1
    assert found['thousand_release_info{engine="told",release="told"}'] == 1
    assert {"process_resident_memory_bytes", "process_open_fds"} <= families


def test_turns_of_the_page_count_too_and_stand_in_the_log(home: Path, log: Log) -> None:
    with told_app(ToldEngine(end_after=2), page=True) as told:
        page = Client(str(told.client.base_url), verbose=False)
        page.predict(SECRET, api_name="/chat")
        page.predict(SECRET, seed="minus one", api_name="/chat")
        found = told.metrics()
    assert found['thousand_turns_ended_total{key="",outcome="stop",via="page"}'] == 1
    assert found['thousand_errors_total{code="invalid_value"}'] == 1
    turns = [line for line in log.lines("/") if line["via"] == "page"]
    assert [(line.get("finish_reason"), line.get("error")) for line in turns] == [
        ("stop", None),
        (None, "invalid_value"),
    ]
    assert turns[0]["completion_tokens"] == 2
    assert SECRET not in log.text()


def test_what_nobody_asked_for_is_not_measured_by_name(log: Log) -> None:
    with told_app() as told:
        for number in range(20):
            told.client.get(f"/v1/x{number}")
            told.client.get(f"/v1/models/x{number}")
            told.client.get(f"/x{number}")
        routes = {name for name in told.metrics() if name.startswith("thousand_requests_total")}
    assert len(routes) == 3


def test_a_clock_that_jumps_disturbs_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle([0.0, 4e9, 1.0])
    with told_app(ToldEngine(end_after=5), requests_per_minute=2) as told:
        monkeypatch.setattr(time, "time", lambda: next(jumps))
        statuses = [told.ask().status_code for _ in range(3)]
        monkeypatch.undo()
    assert statuses == [200, 200, 429]
    assert all(0 <= line["seconds"] < 10 for line in log.lines(CHAT))


def test_what_the_pages_framework_says_of_odd_calls_quotes_nothing(
    home: Path, log: Log, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(traceback, "print_exc", traceback.print_exc)  # to be put back
    log_printed_tracebacks()
    with told_app(page=True) as told:
        odd = {"data": [SECRET, "", 0, SECRET, 1, 5, ""]}
        event = told.client.post("/gradio_api/call/chat", json=odd).json()["event_id"]
        assert "event: error" in told.client.get(f"/gradio_api/call/chat/{event}").text
    assert any("Traceback" in line.get("exception", "") for line in log.lines())
    assert SECRET not in log.text() + "".join(capsys.readouterr())
