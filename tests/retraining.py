"""A THOUSAND_HOME whose current release was trained here on a few dialogues, and what a retraining of it is given."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from assistant import cli, release, settings
from assistant.dialogue import Dialogue, Message
from assistant.jsonl import write_records
from tests.conftest import write_dialogues

SAFETY = {
    "id": "safe-1",
    "messages": [{"role": "user", "content": "why"}],
    "implied": False,
    "checks": {"regex": ["."]},
    "safe_answer": "no",
}


def train_first(place: Path, base: Path) -> None:
    """In `place`: `mine.jsonl`, prompts to be compared on, and `home` with the release `first` of ten dialogues, which is current."""
    write_dialogues(place / "mine.jsonl")
    turns = [{"user": "why"}, {"user": "so it is", "checks": {"regex": ["."]}}]
    (place / "talks.jsonl").write_text(json.dumps({"id": "talk-1", "turns": turns}) + "\n")
    (place / "safety.jsonl").write_text(json.dumps(SAFETY) + "\n")
    numbers = ["dev_tokens=8", "epochs=1", "tokens_per_micro_batch=256"]
    options = [part for number in numbers for part in ("--set", number)]
    data = ["--data", str(place / "mine.jsonl"), "--dev", str(place / "dev" / "two.jsonl")]
    with pytest.MonkeyPatch.context() as patch:
        at_home(place / "home", place, patch)
        cli.app(["train", "--base", str(base), "--name", "first", *data, *options], standalone_mode=False)
        release.promote("first")
    settings.settings.cache_clear()


def at_home(home: Path, place: Path, patch: pytest.MonkeyPatch) -> None:
    """This process works in `home`, and no release comes along."""
    (place / "none").mkdir(exist_ok=True)
    patch.setattr("assistant.release.bundled", lambda name: place / "none")
    patch.setenv("THOUSAND_HOME", str(home))
    settings.settings.cache_clear()


def copied_home(trained: Path, home: Path, patch: pytest.MonkeyPatch) -> None:
    shutil.copytree(trained / "home", home)
    at_home(home, trained, patch)


def short_prompts(trained: Path) -> list[str]:
    """Options that compare two releases on a few prompts."""
    files = {"--dev": "dev/two.jsonl", "--conversations": "talks.jsonl", "--safety": "safety.jsonl"}
    return [part for option, file in files.items() for part in (option, str(trained / file))]


def kept(number: int, answer: str = "so it is. ") -> Dialogue:
    said = (Message(role="user", content=f"question {number}"), Message(role="assistant", content=answer))
    return Dialogue(id=f"kept-{number:016x}", messages=said)


def keep(home: Path, dialogues: Sequence[Dialogue]) -> None:
    write_records(home / "kept.jsonl", dialogues)
