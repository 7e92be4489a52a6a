"""How a server ends: in a process of its own, by real signals."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import wait_until
from tests.told import body


@dataclass
class Process:
    """A server over an engine that is told what to do."""

    popen: subprocess.Popen[str]
    client: httpx.Client
    log: Path

    def ends(self, within: float = 20) -> int:
        return self.popen.wait(within)


@contextmanager
def started(folder: Path, log: str = "log", **told: Any) -> Iterator[Process]:
    command = [sys.executable, "-m", "tests.told", json.dumps({"drain_seconds": 60, **told})]
    file = folder / log
    with file.open("w") as stream:
        popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True)
    try:
        assert popen.stdout is not None
        address = popen.stdout.readline().strip()
        assert address, file.read_text()
        with httpx.Client(base_url=address, timeout=20) as client:
            wait_until(lambda: client.get("/ready").status_code == 200, "it is ready")
            yield Process(popen, client, file)
    finally:
        popen.kill()
        popen.wait()


def lines_of(response: httpx.Response) -> Iterator[str]:
    return (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_answers_under_way_finish_and_nothing_new_is_taken(tmp_path: Path, sent: signal.Signals) -> None:
    until = tmp_path / "enough"
    with started(tmp_path, until=str(until)) as server:
        with server.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
            lines = lines_of(response)
            assert any("word" in line for line in lines)
            server.popen.send_signal(sent)
            wait_until(lambda: server.client.get("/ready").status_code == 503, "it is no longer ready")
            assert server.client.get("/health").status_code == 200, "it lives, though"
            refused = server.client.post("/v1/chat/completions", json=body())
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "5"
            assert refused.json()["error"]["code"] == "stopping"
            assert server.client.get("/v1/models").status_code == 503
            assert any("word" in line for line in lines), "the answer goes on"
            until.touch()
            assert list(lines)[-1] == "[DONE]"
        assert server.ends() == 0
    assert "Traceback" not in server.log.read_text()


def test_an_answer_that_takes_too_long_is_cut(tmp_path: Path) -> None:
    with started(tmp_path, drain_seconds=0.3) as server:
        with server.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
            lines = lines_of(response)
            assert any("word" in line for line in lines)
            server.popen.terminate()
            with pytest.raises(httpx.TransportError):
                assert "[DONE]" not in list(lines)
        assert server.ends() == 0
    assert "Traceback" not in server.log.read_text()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with started(tmp_path, drain_seconds=3600) as server:
        with server.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
            lines = lines_of(response)
            assert any("word" in line for line in lines)
            server.popen.terminate()
            wait_until(lambda: server.client.get("/ready").status_code == 503, "it is stopping")
            server.popen.terminate()
            with pytest.raises(httpx.TransportError):
                list(lines)
        assert server.ends() == 0


def test_an_idle_server_ends_at_once_also_with_an_open_page(tmp_path: Path, home: Path) -> None:
    with (
        started(tmp_path, page=True) as server,
        server.client.stream("GET", "/gradio_api/heartbeat/somebody") as response,
    ):
        assert response.status_code == 200
        next(response.iter_lines())
        server.popen.terminate()
        assert server.ends() == 0
    assert "Traceback" not in server.log.read_text()


def test_a_full_disk_under_the_log_stops_no_answer(tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    with started(tmp_path, log="full", engine={"end_after": 2}) as server:
        for _ in range(3):
            answer = server.client.post("/v1/chat/completions", json=body())
            assert answer.json()["choices"][0]["message"]["content"] == "word word "
        server.popen.terminate()
        assert server.ends() == 0


def test_a_killed_server_can_be_started_again_at_once_on_its_port(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        port = server.client.base_url.port
        with server.client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as response:
            lines = lines_of(response)
            assert any("word" in line for line in lines)
            server.popen.kill()
            with pytest.raises(httpx.TransportError):
                list(lines)
    with started(tmp_path, port=port, engine={"end_after": 1}) as server:
        assert server.client.post("/v1/chat/completions", json=body()).status_code == 200
