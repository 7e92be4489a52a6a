"""A real `thousand serve` while releases are promoted and rolled back, damaged, and processes killed."""

import asyncio
import json
import math
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from assistant import release
from serve.start import open_served
from tests.conftest import Command
from tests.server import Running, end, free_port, running, wait_until
from tests.test_api import body

LLAMA = ("--engine", "llama.cpp", "--context", "256", "--no-page")
TRANSFORMERS = ("--engine", "transformers", "--context", "256", "--no-page")


@pytest.fixture
def engines() -> Iterator[Path]:
    """The folder in which the servers of a test have the folders of their engines."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:  # a socket's path is bounded
        yield Path(folder)


def damage(place: Path) -> None:
    weights = place / release.ADAPTER
    weights.write_bytes(weights.read_bytes()[:-1])


def ready(server: Running) -> dict[str, Any]:
    response = httpx.get(f"{server.address}/ready")
    assert response.status_code == 200
    return dict(response.json())


def answers(server: Running, name: str) -> None:
    wait_until(lambda: ready(server)["release"] == name, f"{name} answers")


def said(server: Running, model: str) -> httpx.Response:
    request = body(model=model, temperature=0, repetition_penalty=1, max_tokens=8)
    return httpx.post(f"{server.address}/v1/chat/completions", json=request, timeout=60)


@dataclass
class Answer:
    """A stream as it was read: the models of its chunks, the seconds of its first and last, and how it ended."""

    models: set[str]
    began: float
    ended: float
    reason: str | None
    done: bool


@dataclass
class Crowd:
    """Clients that read one stream after the other."""

    address: str
    tokens: int
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    def read(self, client: httpx.Client, seed: int) -> None:
        request = body(stream=True, seed=seed, top_p=1, repetition_penalty=1, max_tokens=self.tokens)
        with client.stream("POST", "/v1/chat/completions", json=request) as response:
            if response.status_code != 200:
                self.failures.append(response.read().decode())
                return
            began, read = 0.0, b""
            for piece in response.iter_bytes():
                began = began or time.monotonic()
                read += piece
        lines = [line.removeprefix("data: ") for line in read.decode().split("\n") if line]
        chunks = [json.loads(line) for line in lines if line != "[DONE]"]
        self.failures += [line for line, chunk in zip(lines, chunks, strict=False) if "error" in chunk]
        choices = [chunk["choices"][0] for chunk in chunks if "choices" in chunk]
        self.answers.append(
            Answer(
                {chunk.get("model", "") for chunk in chunks},
                began,
                time.monotonic(),
                choices[-1]["finish_reason"] if choices else None,
                lines[-1] == "[DONE]",
            )
        )

    def work(self, number: int) -> None:
        with httpx.Client(base_url=self.address, timeout=60) as client:
            while not self.enough.is_set():
                try:
                    self.read(client, seed=len(self.answers) + 1000 * number)
                except Exception as error:
                    self.failures.append(repr(error))
                    return

    def of(self, name: str) -> list[Answer]:
        return [answer for answer in self.answers if answer.models == {name}]

    def read_another(self, name: str) -> None:
        """Wait until one more answer of a release has been read."""
        before = len(self.of(name))
        wait_until(lambda: len(self.of(name)) > before or bool(self.failures), f"another answer of {name}")

    def overlapped(self, old: str, new: str, moment: float) -> bool:
        """Whether an answer of the old release ended after one of the new had begun, which was current from a moment on."""
        first = min((answer.began for answer in self.of(new) if answer.began > moment), default=math.inf)
        return any(answer.began < first < answer.ended for answer in self.of(old))


@contextmanager
def crowded(address: str, tokens: int) -> Iterator[Crowd]:
    """Four clients that read answers of at most so many tokens as long as the block lasts."""
    crowd = Crowd(address, tokens)
    threads = [threading.Thread(target=crowd.work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield crowd
    finally:
        crowd.enough.set()
        for thread in threads:
            thread.join(60)


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(process: psutil.Process) -> None:
    process.kill()
    wait_until(lambda: ended(process), "it ends")


def open_engines(engines: Path) -> int:
    return len(list(engines.glob("thousand-*/engine.sock")))


@pytest.mark.parametrize(("options", "tokens"), [(LLAMA, 100), (TRANSFORMERS, 20)], ids=["llama.cpp", "transformers"])
def test_no_request_fails_while_releases_are_promoted_and_rolled_back(
    home: Path, registry: Path, engines: Path, options: tuple[str, ...], tokens: int
) -> None:
    with running(home, *options, temporary=engines) as server:
        swaps: list[tuple[str, str, float]] = []
        with crowded(server.address, tokens) as crowd:
            current = "first"
            for promoted in ("second", None, "third", "second", None, None):
                crowd.read_another(current)
                moment = time.monotonic()
                if promoted is not None:
                    release.promote(promoted)
                swaps.append((current, promoted or release.rollback(), moment))
                current = swaps[-1][1]
                answers(server, current)
            crowd.read_another(current)
        assert crowd.failures == [], server.words()
        assert all(answer.done and answer.reason in ("stop", "length") for answer in crowd.answers)
        assert {name for answer in crowd.answers for name in answer.models} == {"first", "second", "third"}
        assert all(len(answer.models) == 1 for answer in crowd.answers), "an answer is of one release"
        if options is LLAMA:  # the other's few words may all be said by then
            assert any(crowd.overlapped(*swap) for swap in swaps), "some ended on the old one beside answers of the new"
            wait_until(lambda: open_engines(engines) == 1, "one engine is left")
            assert len(psutil.Process(server.process.pid).children()) == 1
        end(server)
    assert list(engines.glob("thousand-*")) == []


def test_a_damaged_release_is_told_until_it_is_mended_and_requests_may_name_any(
    home: Path, registry: Path, three_releases: Path
) -> None:
    with running(home, *LLAMA) as server:
        own = said(server, "thousand").json()
        damage(registry / "second")
        release.promote("second")
        wait_until(lambda: "failed" in ready(server), "the failure is told")
        assert ready(server)["release"] == said(server, "thousand").json()["model"] == "first"
        assert server.words().count("The weights of release second are missing or damaged (checksum)") == 1
        shutil.copy(three_releases / "releases" / "second" / release.ADAPTER, registry / "second")
        release.promote("second")
        answers(server, "second")
        other = said(server, "thousand").json()
        assert other["model"] == "second"
        assert other["choices"][0]["message"] != own["choices"][0]["message"], "it is another model"
        named = said(server, "first").json()
        assert (named["model"], named["choices"]) == ("first", own["choices"])
        assert said(server, "third").json()["model"] == "third"
        assert said(server, "../second").status_code == 404
        models = httpx.get(f"{server.address}/v1/models").json()["data"]
        assert {model["id"] for model in models} == {"thousand", "first", "second", "third"}
        end(server)


def test_a_server_killed_while_it_swaps_starts_with_the_new_release_and_leaves_no_folder_behind(
    home: Path, registry: Path, engines: Path
) -> None:
    with running(home, *LLAMA, temporary=engines) as server:
        release.promote("second")
        wait_until(lambda: "GGUF file of second" in server.words(), "it is being loaded")
        own = psutil.Process(server.process.pid).children()
        server.process.kill()
        server.process.wait()
    wait_until(lambda: all(ended(engine) for engine in own), "its engines end with it")
    assert open_engines(engines) >= 1
    with running(home, *LLAMA, temporary=engines) as server:
        assert ready(server) == {"status": "ready", "release": "second"}
        assert said(server, "thousand").json()["model"] == "second"
        assert len(list(engines.glob("thousand-*"))) == 1
        end(server)


def test_an_engine_whose_process_dies_is_started_again(home: Path, registry: Path, engines: Path) -> None:
    with running(home, *LLAMA, temporary=engines) as server:
        before = said(server, "thousand").json()["choices"]
        (engine,) = psutil.Process(server.process.pid).children()
        kill(engine)
        assert said(server, "thousand").json()["choices"] == before
        (again,) = psutil.Process(server.process.pid).children()
        kill(again)
        assert ready(server)["status"] == "ready"
        assert open_engines(engines) == 1
        assert server.words().count("it is started again") == 2
        end(server)


def test_where_the_current_release_cannot_be_loaded_the_last_one_that_can_is_served_and_it_is_said(
    thousand: Command, home: Path, registry: Path
) -> None:
    for name in ("second", "third"):
        release.promote(name)
        damage(registry / name)
    with running(home, *LLAMA) as server:
        assert ready(server)["release"] == "first"
        assert "third is current and could not be loaded, so first answers" in ready(server)["failed"]
        words = server.words()
        assert (
            "Serving first, the last release that can be loaded, in place of third (The weights of release third"
            in words
        )
        assert "thousand releases rollback" in words
        release.promote("first")
        wait_until(lambda: "failed" not in ready(server), "nothing is wrong any more")
        end(server)
    pinned = thousand("serve", "--release", "third", "--port", free_port(), "--engine", "llama.cpp")
    assert pinned.code == 1
    assert "The weights of release third are missing or damaged (checksum)" in pinned.err
    assert "Serving" not in pinned.err
    damage(registry / "first")
    none = thousand("serve", "--port", free_port(), "--engine", "llama.cpp")
    assert none.code == 1
    assert "The weights of release first are missing or damaged (checksum)" in none.err


@pytest.mark.parametrize("name", ["first", None])
def test_a_release_that_is_named_at_the_start_is_kept_to(registry: Path, name: str | None) -> None:
    served, background = open_served(name, engine="transformers", context=256, say=print, warn=print)
    asyncio.run(served.close())
    assert served.current.name == "first"
    assert (background is None) == (name is not None)


PROMOTE = """
import os, signal, sys
from pathlib import Path
from assistant import release

release.bundled = lambda name: Path(sys.argv[1])
left = 0

def step(event, _):
    global left
    if event == "open" or event.startswith(("os.", "fcntl.")):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

for steps in range(1, 1000):
    release.promote("first")
    child = os.fork()
    if child == 0:
        left = steps
        sys.addaudithook(step)
        release.promote("second")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(os.WIFSIGNALED(status), release.current())
    if status == 0:
        break
"""


def test_a_promotion_killed_at_any_step_leaves_the_old_release_current_or_the_new_one(
    registry: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROMOTE, str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    outcomes = [line.split() for line in done.stdout.splitlines()]
    killed = [name for was_killed, name in outcomes if was_killed == "True"]
    assert set(killed) == {"first", "second"}
    assert sorted(killed) == killed, "once it is written it stays"
    assert outcomes[-1] == ["False", "second"]
