"""Fixtures: a THOUSAND_HOME of the test's own, a tiny real base model, the command line in this process."""

import os

os.environ.pop("THOUSAND_API_KEY", None)
os.environ.pop("THOUSAND_API_KEYS_FILE", None)
os.environ.pop("THOUSAND_STORE_URL", None)
os.environ.pop("THOUSAND_ENGINE_KEY", None)
os.environ.pop("THOUSAND_ENDPOINT_KEY", None)
os.environ.pop("THOUSAND_JUDGE_URL", None)
os.environ.pop("THOUSAND_JUDGE_MODEL", None)
os.environ.pop("THOUSAND_JUDGE_KEY", None)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["COLUMNS"] = "200"
# The tiny model is faster on one thread, and two processes on two threads each starve one another.
os.environ["OMP_NUM_THREADS"] = "1"

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistant import cli, release, settings
from assistant.sampling import Sampling
from tests.tiny import make_tiny_base, make_tiny_llama, make_tiny_release

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")


def pytest_configure() -> None:
    """A worker of several keeps to a core of its own: what its tests start takes a thread for each core it sees, and
    threads that wait for one another spin."""
    if WORKER and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(WORKER.removeprefix("gw")) % len(cores)]})


@dataclass(frozen=True)
class Result:
    """What a command left: exit status and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def thousand(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the `thousand` command in this process."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["thousand", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty THOUSAND_HOME."""
    place = tmp_path / "home"
    monkeypatch.setenv("THOUSAND_HOME", str(place))
    settings.settings.cache_clear()
    yield place
    settings.settings.cache_clear()


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A THOUSAND_HOME in which the embedded base is unpacked once for all tests (or the one named by THOUSAND_TEST_HOME)."""
    given = os.environ.get("THOUSAND_TEST_HOME")
    if given:
        return Path(given)
    return tmp_path_factory.getbasetemp().parent / "shared-home" if WORKER else tmp_path_factory.mktemp("shared-home")


@pytest.fixture
def real_home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The shared THOUSAND_HOME with the embedded base and the release that comes along."""
    monkeypatch.setenv("THOUSAND_HOME", str(shared_home))
    settings.settings.cache_clear()
    yield shared_home
    settings.settings.cache_clear()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny, randomly initialised Gemma 3 and a tokenizer trained on a few sentences."""
    return make_tiny_base(tmp_path_factory.mktemp("tiny") / "tiny-gemma")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny, randomly initialised Llama and a ChatML tokenizer like SmolLM2's."""
    return make_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="session")
def three_releases(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A THOUSAND_HOME with three releases of a tiny base, none of them current; what changes it must work on a copy."""
    home = tmp_path_factory.mktemp("three-releases")
    for name, temperature in (("first", 0.7), ("second", 0.3), ("third", 0.7)):
        sampling = Sampling(max_tokens=100, temperature=temperature)
        make_tiny_release(home / "releases", tiny_llama, name, sampling)
    return home


@pytest.fixture
def registry(home: Path, three_releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of three releases of a tiny base, of which the first is current, and none that comes along."""
    shutil.copytree(three_releases, home)
    (tmp_path / "none").mkdir()
    monkeypatch.setattr("assistant.release.bundled", lambda name: tmp_path / "none")
    release.promote("first")
    return home / "releases"


def write_dialogues(file: Path) -> None:
    """Ten small dialogues of one to three turns."""
    lines = []
    for number in range(10):
        messages = []
        for turn in range(1 + number % 3):
            messages += [
                {"role": "user", "content": f"question {number} {turn} " + "why " * (number % 4)},
                {"role": "assistant", "content": f"answer {turn} of {number}. " + "so it is. " * (number % 5 + 1)},
            ]
        lines.append(json.dumps({"id": f"mine-{number}", "messages": messages}))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (file.parent / "dev").mkdir()
    (file.parent / "dev" / "two.jsonl").write_text("\n".join(lines[:4:3]) + "\n", encoding="utf-8")


def short_dev(file: Path) -> list[str]:
    """Options that have each checkpoint answer two prompts in a few words, beside a file of `write_dialogues`."""
    return ["--dev", str(file.parent / "dev" / "two.jsonl"), "--set", "dev_tokens=8"]


@pytest.fixture
def dialogues_file(tmp_path: Path) -> Path:
    """A file as `write_dialogues` makes it."""
    file = tmp_path / "mine.jsonl"
    write_dialogues(file)
    return file


@pytest.fixture(scope="session")
def trained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `retraining.train_first` leaves it."""
    from tests.retraining import train_first

    place = tmp_path_factory.mktemp("trained")
    train_first(place, tiny_llama)
    return place


@pytest.fixture
def own(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A THOUSAND_HOME in which `first` is current, which was trained here, and nothing is kept yet."""
    from tests.retraining import copied_home

    copied_home(trained, tmp_path / "home", monkeypatch)
    yield tmp_path / "home"
    settings.settings.cache_clear()
