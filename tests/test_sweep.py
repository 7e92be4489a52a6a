"""Sweeps: every arm is judged at each rung, the better ones go on, and what is done is done once."""

import json
import re
from pathlib import Path

import pytest

from assistant.settings import settings
from tests.conftest import Command
from train.run import runs_folder

GRID = """
base = "{base}"
data = ["mine.jsonl"]
dev = "dev/two.jsonl"
rungs = [1]

[numbers]
dialogues_per_step = 4
dev_tokens = 8

[grid]
learning_rate = [1e-5, 1e-3]
epochs = [1, 2]
"""


@pytest.fixture
def grid(home: Path, tiny_base: Path, dialogues_file: Path) -> Path:
    file = dialogues_file.parent / "small.toml"
    file.write_text(GRID.format(base=tiny_base))
    return file


def results(name: str) -> list[dict[str, object]]:
    lines = (settings().home / "sweeps" / name / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_better_half_goes_on_to_its_end(thousand: Command, grid: Path) -> None:
    done = thousand("train", "sweep", grid)
    assert done.code == 0, done.err
    found = results("small")
    assert [(one["arm"], one["rung"]) for one in found[:4]] == [(f"small-{number}", 0) for number in range(1, 5)]
    assert [one["changes"] for one in found[:4]] == [
        {"learning_rate": rate, "epochs": epochs} for rate in (1e-5, 1e-3) for epochs in (1, 2)
    ]
    at_first = sorted(found[:4], key=lambda one: -one["score"])
    ended = found[4:]
    assert {one["arm"] for one in ended} == {one["arm"] for one in at_first[:2]}
    assert all(one["last"] for one in ended)
    for one in found:
        assert one["step"] <= 3 * one["changes"]["epochs"]
    assert not (runs_folder() / str(at_first[-1]["arm"]) / "checkpoints").exists(), "what was left takes no room"
    best = max(ended, key=lambda one: one["score"])
    rate, epochs = best["changes"]["learning_rate"], best["changes"]["epochs"]
    assert f"--set learning_rate={rate} --set epochs={epochs}" in done.out
    assert re.search(r"4 arms, \d\.\d\d CPU-hours", done.out)


def test_begun_again_it_does_only_what_is_left(thousand: Command, grid: Path) -> None:
    assert thousand("train", "sweep", grid).code == 0
    file = settings().home / "sweeps" / "small" / "results.jsonl"
    whole = file.read_text().splitlines()
    file.write_text("\n".join(whole[:-1]) + "\n")
    again = thousand("train", "sweep", grid)
    assert again.code == 0, again.err
    assert "training" not in again.err, "the run was at its end; only its line was lost"
    timeless = [{**json.loads(line), "cpu_seconds": 0} for line in whole]
    assert [{**line, "cpu_seconds": 0} for line in results("small")] == timeless


def test_a_grid_that_changed_is_not_gone_on_with(thousand: Command, grid: Path) -> None:
    assert thousand("train", "sweep", grid).code == 0
    grid.write_text(grid.read_text().replace("1e-5", "1e-4"))
    refused = thousand("train", "sweep", grid)
    assert refused.code == 1
    assert "has changed since the sweep 'small' began; give the new one another --name" in refused.err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("grid = [", "is no TOML"),
        ("[grd]\n", "grd"),
        ("[grid]\nlearning_rat = [1]\n", "did you mean learning_rate?"),
        ("[grid]\nepochs = [-1]\n", "epochs"),
        ("rungs = [1, 0.5]\n[grid]\nepochs = [1]\n", "rungs must be epochs above 0 that rise"),
        ("recipe = 'lima'\n", "has no arms"),
    ],
)
def test_a_bad_grid_is_one_sentence_and_leaves_nothing(
    thousand: Command, home: Path, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "bad.toml").write_text(text)
    result = thousand("train", "sweep", tmp_path / "bad.toml")
    assert result.code == 1
    assert sentence in result.err
    assert not list(home.rglob("*.*"))
