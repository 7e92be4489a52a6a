"""Releases that change while a server answers, over engines that are told what to do and a real registry."""

import asyncio
import gc
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import httpx
import pytest

from assistant import release
from assistant.errors import ThousandError
from assistant.files import write_text
from assistant.release import Release
from assistant.sampling import Sampling
from assistant.template import Template
from serve.access import Access
from serve.api import build_app
from serve.chat import Chat
from serve.engines.base import Delta, Finish
from serve.follow import follow
from serve.served import MOST_BESIDE, Opener, Served
from tests.server import serving_app, wait_until
from tests.test_api import body
from tests.tiny import make_tokenizer

TEMPLATE = Template(make_tokenizer(), bos="<bos>", eos="<eos>")
NAMES = ["first", "second", "third", "fourth", "fifth"]


@dataclass(eq=False)
class Told:
    """Says "word " until it is told to end, or as often as it may; counts how often it was closed."""

    name: str
    context: int = 10**6
    reads_text: bool = False
    may_end: threading.Event = field(default_factory=threading.Event)
    closes: int = 0

    async def stream(self, prompt: Sequence[int], sampling: Sampling, *_: Any) -> AsyncIterator[Delta | Finish]:
        assert self.closes == 0, "a closed engine is asked nothing"
        for _word in range(sampling.max_tokens):
            if self.may_end.is_set():
                yield Finish("stop")
                return
            yield Delta("word ", 1)
            await asyncio.sleep(0.005)
        yield Finish("length")

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        self.closes += 1


class Opening:
    """Opens releases with told engines: at once, or when it is let, or not at all."""

    def __init__(self) -> None:
        self.engines: list[Told] = []
        self.alive: WeakSet[Told] = WeakSet()
        self.held_back: dict[str, threading.Event] = {}
        self.broken: dict[str, Exception] = {}
        self.opened: list[str] = []

    def __call__(self, name: str) -> Chat:
        self.opened.append(name)
        if name in self.held_back:
            assert self.held_back[name].wait(20)
        if name in self.broken:
            raise self.broken[name]
        engine = Told(name)
        self.engines.append(engine)
        self.alive.add(engine)
        record = release.read(release.path(name))
        return Chat(engine, TEMPLATE, name=name, sampling=Sampling(max_tokens=32_768), record=record)

    def engine(self, name: str) -> Told:
        """The engine of a release that was opened last."""
        return next(engine for engine in reversed(self.engines) if engine.name == name)


def write_release(name: str, weights: str = "") -> None:
    """A release that is only a record."""
    place = release.folder() / name
    place.mkdir(parents=True, exist_ok=True)
    template = {"family": "gemma", "stop_rule": "eos", "stop_id": 1, "bos": "<bos>"}
    fields: dict[str, Any] = {"version": "0", "base": "none", "base_checksum": "", "recipe": {}, "data": []}
    record = Release(name=name, created=release.now(), template=template, adapter_sha256=weights or name, **fields)
    release.write(place, record)


@pytest.fixture
def records(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five releases, of which the first is current, and none that comes along; they are looked at all the time."""
    (tmp_path / "none").mkdir()
    monkeypatch.setattr("assistant.release.bundled", lambda name: tmp_path / "none")
    monkeypatch.setattr("serve.follow.LOOK_EVERY", 0.01)
    monkeypatch.setattr("serve.served.LOOK", 0.01)
    for name in NAMES:
        write_release(name)
    release.promote("first")
    return release.folder()


@dataclass
class Stream:
    """An answer that is being read."""

    response: httpx.Response
    lines: Iterator[str]

    @property
    def model(self) -> str:
        """Of the next chunk."""
        return str(json.loads(next(self.lines))["model"])

    def rest(self) -> list[dict[str, Any]]:
        """What is still to come, to the end that a whole answer has."""
        lines = list(self.lines)
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]


@dataclass
class Stage:
    opening: Opening
    served: Served
    client: httpx.Client

    def ready(self) -> dict[str, Any]:
        response = self.client.get("/ready")
        assert response.status_code == 200
        return dict(response.json())

    def answers(self, name: str) -> None:
        wait_until(lambda: self.ready()["release"] == name, f"{name} answers", 10)

    def ask(self, model: str = "thousand") -> httpx.Response:
        return self.client.post("/v1/chat/completions", json=body(model=model, max_tokens=3))

    @contextmanager
    def stream(self, model: str = "thousand") -> Iterator[Stream]:
        request = body(model=model, stream=True)
        with self.client.stream("POST", "/v1/chat/completions", json=request) as response:
            assert response.status_code == 200, response.read()
            yield Stream(response, (line.removeprefix("data: ") for line in response.iter_lines() if line))


@contextmanager
def staged(opener: Callable[[Opening], Opener | None] = lambda opening: opening) -> Iterator[Stage]:
    opening = Opening()
    served = Served(opening("first"), opener(opening))
    seen = release.registry_stamp()
    app = build_app(served, access=Access(hosts=["127.0.0.1"]), background=partial(follow, served, seen))
    limits = httpx.Limits(max_connections=None)
    with serving_app(app) as address, httpx.Client(base_url=address, timeout=20, limits=limits) as client:
        yield Stage(opening, served, client)
        opening.held_back.clear()
    assert [engine.closes for engine in opening.engines] == [1] * len(opening.engines), "each is closed, and only once"


@pytest.fixture
def stage(records: Path) -> Iterator[Stage]:
    with staged() as found:
        yield found


def test_an_answer_ends_on_the_release_it_began_with_which_goes_then(stage: Stage) -> None:
    first = stage.opening.engine("first")
    with stage.stream() as old:
        assert old.model == "first"
        release.promote("second")
        stage.answers("second")
        with stage.stream() as new:
            assert new.model == "second"
            assert first.closes == 0
            first.may_end.set()
            rest = old.rest()
            assert {chunk["model"] for chunk in rest} == {"first"}
            assert rest[-1]["choices"][0]["finish_reason"] == "stop"
            wait_until(lambda: first.closes == 1, "the old engine is closed", 10)
            release.rollback()
            stage.answers("first")
            stage.opening.engine("second").may_end.set()
            assert {chunk["model"] for chunk in new.rest()} == {"second"}
    assert stage.opening.opened == ["first", "second", "first"]


def test_a_release_that_still_answers_becomes_current_again_without_being_loaded(stage: Stage) -> None:
    with stage.stream() as old:
        assert old.model == "first"
        for _ in range(3):
            release.promote("second")
            stage.answers("second")
            release.rollback()
            stage.answers("first")
        stage.opening.engine("first").may_end.set()
        assert old.rest()[-1]["choices"][0]["finish_reason"] == "stop"
    assert stage.opening.opened.count("first") == 1
    assert stage.opening.engine("first").closes == 0


def test_of_two_quick_promotions_the_last_one_wins(stage: Stage) -> None:
    stage.opening.held_back["second"] = threading.Event()
    release.promote("second")
    wait_until(lambda: "second" in stage.opening.opened, "it is being loaded", 10)
    assert stage.ready()["release"] == "first", "which answers meanwhile"
    release.promote("third")
    stage.opening.held_back["second"].set()
    stage.answers("third")
    wait_until(lambda: stage.opening.engine("second").closes == 1, "what came between is closed", 10)


def test_only_what_is_in_use_stays_in_memory(stage: Stage) -> None:
    for name in [*NAMES[1:], *NAMES, *NAMES]:
        release.promote(name)
        stage.answers(name)
        with stage.stream() as stream:
            assert stream.model == name
    wait_until(lambda: len([1 for engine in stage.opening.engines if not engine.closes]) == 1, "one is open", 10)
    opened = len(stage.opening.engines)
    assert opened == 15
    stage.opening.engines.clear()
    wait_until(lambda: gc.collect() >= 0 and len(stage.opening.alive) == 1, "nothing keeps the others", 10)
    stage.opening.engines.extend(stage.opening.alive)


def test_one_that_cannot_be_loaded_changes_nothing_is_told_and_is_tried_again_when_the_registry_changes(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.opening.broken["second"] = ThousandError("its weights are damaged")
    with stage.stream() as old:
        release.promote("second")
        wait_until(lambda: "failed" in stage.ready(), "the failure is told", 10)
        told = stage.ready()
        assert (told["status"], told["release"]) == ("ready", "first")
        assert "second is current and could not be loaded, so first answers" in told["failed"]
        assert old.model == "first"
    assert [line for line in caplog.messages if "damaged" in line] == [
        "the release second cannot be loaded, first goes on: its weights are damaged"
    ]
    for _ in range(5):
        stage.ready()
    assert stage.opening.opened == ["first", "second"], "it is not tried again and again"
    del stage.opening.broken["second"]
    release.promote("second")
    stage.answers("second")
    wait_until(lambda: "failed" not in stage.ready(), "nothing is wrong any more", 10)


@pytest.mark.parametrize("harm", ["no record", "no registry", "out of memory"])
def test_whatever_goes_wrong_with_the_new_one_the_old_one_answers(
    stage: Stage, records: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    if harm == "out of memory":
        stage.opening.broken["second"] = MemoryError("no room")
        release.promote("second")
    elif harm == "no record":
        (records / "second" / "release.json").write_text("{")
        with pytest.raises(ThousandError, match="no whole release"):
            release.promote("second")
        registry = json.loads((records / "registry.json").read_text())
        write_text(records / "registry.json", json.dumps({"promoted": [*registry["promoted"], "second"]}))
    else:
        (records / "registry.json").write_text("{")
    wait_until(lambda: "failed" in stage.ready(), "the failure is told", 10)
    assert stage.ask().json()["model"] == "first"
    assert len([line for line in caplog.messages if "goes on" in line]) == 1
    if harm == "no registry":
        (records / "registry.json").unlink()
    release.promote("third")
    stage.answers("third")


def test_a_release_made_anew_under_its_old_name_is_loaded_anew(stage: Stage) -> None:
    first = stage.opening.engine("first")
    with stage.stream() as old:
        assert old.model == "first"
        write_release("first", weights="other weights")
        release.promote("first")
        wait_until(lambda: len(stage.opening.engines) == 2, "it is loaded", 10)
        stage.opening.engine("first").may_end.set()
        wait_until(lambda: stage.ask().json()["usage"]["completion_tokens"] == 0, "and answers", 10)
        first.may_end.set()
        assert old.rest()
    wait_until(lambda: first.closes == 1, "the old one goes", 10)


def test_a_request_may_name_a_release_which_is_loaded_once_and_kept(stage: Stage) -> None:
    stage.opening.held_back["third"] = threading.Event()
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(stage.ask, "third") for _ in range(20)]
        wait_until(lambda: "third" in stage.opening.opened, "it is being loaded", 10)
        stage.opening.held_back["third"].set()
        answers = [answer.result() for answer in asked]
    assert {(answer.status_code, answer.json()["model"]) for answer in answers} == {(200, "third")}
    assert stage.ready()["release"] == "first"
    release.promote("third")
    stage.answers("third")
    assert stage.opening.opened == ["first", "third"], "it was there already"


def test_the_release_used_least_lately_makes_room_and_never_one_that_answers(stage: Stage) -> None:
    with stage.stream("second") as second, stage.stream("third"):
        assert len(stage.opening.engines) == 1 + MOST_BESIDE
        refused = stage.ask("fourth")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
        assert refused.headers["retry-after"]
        assert stage.opening.opened.count("fourth") == 0
        stage.opening.engine("second").may_end.set()
        second.rest()
        with stage.stream("fourth") as fourth:
            assert fourth.model == "fourth"
            stage.opening.engine("fourth").may_end.set()
            fourth.rest()
        assert stage.opening.engine("second").closes == 1
        assert stage.opening.engine("third").closes == 0
    for name in ("third", "fifth"):  # now the fourth was used least lately
        assert stage.ask(name).status_code == 200
    assert stage.opening.engine("fourth").closes == 1
    assert stage.opening.engine("third").closes == 0


def test_a_swap_waits_until_there_is_room_and_goes_first_then(stage: Stage) -> None:
    with stage.stream("second") as second, stage.stream("third"):
        release.promote("fourth")
        wait_until(lambda: stage.ask("second").status_code == 429, "those beside answer no more", 10)
        with stage.stream() as current:
            assert current.model == "first", "the current one does"
        stage.opening.engine("second").may_end.set()
        assert second.rest()[-1]["choices"][0]["finish_reason"] == "stop"
        stage.answers("fourth")


def test_as_many_requests_wait_for_a_release_as_may(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.served.MOST_WAITING", 3)
    stage.opening.held_back["second"] = threading.Event()
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(stage.ask, "second") for _ in range(10)]
        wait_until(lambda: sum(answer.done() for answer in asked) == 7, "those too many are told", 10)
        stage.opening.held_back["second"].set()
        statuses = [answer.result().status_code for answer in asked]
    assert sorted(statuses) == [200] * 3 + [429] * 7


def test_a_named_release_that_cannot_be_loaded_is_a_503_which_tells_nothing_of_this_machine(
    stage: Stage, records: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage.opening.broken["second"] = ThousandError(f"{records}/second is no whole release")
    refused = stage.ask("second")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unavailable")
    assert str(records) not in refused.text
    assert str(records) in caplog.text
    assert "failed" not in stage.ready(), "the current one is well"
    del stage.opening.broken["second"]
    with stage.stream("second") as stream:
        assert stream.model == "second"


def test_only_names_of_releases_reach_the_disk(stage: Stage) -> None:
    for name in ("../first", "first/", "First", ".first", "first\0", "", "..", "a" * 100_000, "sceond"):
        refused = stage.ask(name)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        assert len(refused.text) < 400
        assert ("did you mean second?" in refused.text) == (name == "sceond")
    assert stage.opening.opened == ["first"]


def test_models_are_listed_with_their_time_and_none_is_loaded_for_it(stage: Stage, records: Path) -> None:
    (records / "fifth" / "release.json").write_text("{")
    listed = stage.client.get("/v1/models").json()["data"]
    assert {model["id"] for model in listed} == {"thousand", *NAMES[:4]}, "a broken one is passed over"
    made = int(release.read(records / "second").created.timestamp())
    assert stage.client.get("/v1/models/second").json()["created"] == made
    assert stage.client.get("/v1/models/sixth").status_code == 404
    assert stage.opening.opened == ["first"]


def test_an_engine_elsewhere_serves_what_it_has_and_says_that_a_promotion_is_not_followed(
    records: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with staged(lambda opening: None) as stage:
        release.promote("second")
        wait_until(lambda: "second is current now" in caplog.text, "the log tells", 10)
        assert "goes on with it; to change that, start both again" in caplog.text
        assert stage.ready() == {"status": "ready", "release": "first"}
        refused = stage.ask("second")
        assert refused.status_code == 404
        assert "the engine behind this server has first only" in refused.json()["error"]["message"]
        assert {model["id"] for model in stage.client.get("/v1/models").json()["data"]} == {"thousand", "first"}
        assert stage.ask("first").status_code == 200


def test_a_server_that_ends_while_it_loads_closes_that_engine_too(records: Path) -> None:
    with staged() as stage:
        gate = stage.opening.held_back["second"] = threading.Event()
        release.promote("second")
        wait_until(lambda: "second" in stage.opening.opened, "it is being loaded", 10)
        threading.Timer(0.1, gate.set).start()
    assert len(stage.opening.engines) == 2


def test_the_log_tells_of_a_swap(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "thousand"):
        release.promote("second")
        stage.answers("second")
        wait_until(lambda: "second answers in place of first" in caplog.text, "the log tells", 10)
