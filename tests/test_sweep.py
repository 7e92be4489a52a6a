"""Sweeps: every arm is judged at each rung, the better ones go on, and what is done is done once."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import pytest
import torch

from assistant.base_model import quiet
from assistant.settings import settings
from tests.conftest import Command
from tests.judging import completion, judging
from train import trainer
from train.grid import open_sweep
from train.recipe import preset
from train.run import begin_run, runs_folder

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


TWO_ARMS = """
base = "{base}"
data = ["mine.jsonl"]
dev = "dev/two.jsonl"
rungs = {rungs}

[numbers]
dialogues_per_step = 4
dev_tokens = 8
epochs = 1

[grid]
learning_rate = [1e-3, 1e-5]
"""


@pytest.fixture
def grid(home: Path, tiny_base: Path, dialogues_file: Path) -> Path:
    file = dialogues_file.parent / "small.toml"
    file.write_text(GRID.format(base=tiny_base))
    return file


def two_arms(dialogues_file: Path, base: Path, rungs: str = "[]") -> Path:
    file = dialogues_file.parent / "two.toml"
    file.write_text(TWO_ARMS.format(base=base, rungs=rungs))
    return file


def results(name: str) -> list[dict[str, Any]]:
    lines = (settings().home / "sweeps" / name / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def answers(result: dict[str, Any]) -> list[float]:
    """The scores of the two answers that an arm was judged by."""
    file = runs_folder() / result["arm"] / "answers" / f"{result['step']}.jsonl"
    return [json.loads(line)["score"] for line in file.read_text().splitlines()]


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
    assert not (runs_folder() / at_first[-1]["arm"] / "checkpoints").exists(), "what was left takes no room"
    for one in found:
        assert one["standing"]["by"] == "program"
        leader = next(
            other for other in found if (other["arm"], other["rung"]) == (one["standing"]["best"], one["rung"])
        )
        assert leader["score"] == max(other["score"] for other in found if other["rung"] == one["rung"])
        if leader is one:
            assert one["standing"]["behind"] is None
            continue
        differences = [high - low for high, low in zip(answers(leader), answers(one), strict=True)]
        behind = one["standing"]["behind"]
        assert behind["mean"] == pytest.approx(fmean(differences), abs=1e-3)
        assert (behind["low"], behind["high"]) == pytest.approx((min(differences), max(differences)), abs=1e-3)
    assert f"{ended[0]['standing']['best']} by 0." in done.out
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
    assert f"Changed since the sweep 'small' began: {grid}. " in refused.err
    assert "give the new sweep another --name" in refused.err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("grid = [", "is no TOML"),
        ("[grd]\n", "grd"),
        ("[grid]\nlearning_rat = [1]\n", "did you mean learning_rate?"),
        ("[grid]\nepochs = [-1]\n", "epochs"),
        ("rungs = [1, 0.5]\n[grid]\nepochs = [1]\n", "rungs must be epochs above 0 that rise"),
        ("recipe = 'lima'\n", "has no arms"),
        (
            "[grid]\nepochs = [1, 2]\n[[arms]]\nepochs = 1.0\n",
            "Arms that are one recipe: bad-1 and bad-3 (epochs=1). Leave all but one of each out of the grid.",
        ),
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


def nan_at(monkeypatch: pytest.MonkeyPatch, rates: list[float]) -> None:
    """Runs of these learning rates diverge in their second step."""
    step = trainer.StepTrainer.training_step

    def diverging(self: trainer.StepTrainer, *arguments: object) -> torch.Tensor:
        loss = step(self, *arguments)
        return loss * torch.nan if self.args.learning_rate in rates and self.state.global_step == 1 else loss

    monkeypatch.setattr(trainer.StepTrainer, "training_step", diverging)


def test_an_arm_that_diverges_ranks_last_and_the_others_go_on(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = two_arms(dialogues_file, tiny_base, "[0.7]")
    nan_at(monkeypatch, [1e-3])
    done = thousand("train", "sweep", file)
    assert done.code == 0, done.err
    failed, first, ended = results("two")
    assert (failed["arm"], failed["rung"], failed["failed"]) == ("two-1", 0, "The loss became nan at step 2")
    assert [(one["arm"], one["rung"], one["last"]) for one in (first, ended)] == [
        ("two-2", 0, False),
        ("two-2", 1, True),
    ]
    shown = done.out.splitlines()
    assert "two-1" in shown[2] and "failed: The loss became nan at step 2" in shown[2]
    assert "--set learning_rate=1e-05" in done.out
    again = thousand("train", "sweep", file)
    assert (again.code, again.out) == (0, done.out), "what failed is not tried again"

    nan_at(monkeypatch, [1e-3, 1e-5])
    every = thousand("train", "sweep", file, "--name", "none")
    assert every.code == 1
    assert [one["failed"] for one in results("none")] == ["The loss became nan at step 2"] * 2
    assert "none-2" in every.out
    assert "Every arm of the sweep none failed" in every.err


def test_whatever_else_stops_a_run_stops_the_sweep(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(trainer.StepTrainer, "training_step", full)
    stopped = thousand("train", "sweep", two_arms(dialogues_file, tiny_base))
    assert stopped.code == 1
    assert "No space left on device. Free some space" in stopped.err
    assert not (settings().home / "sweeps" / "two" / "results.jsonl").exists()


def test_grades_rank_arms_when_all_have_them(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = two_arms(dialogues_file, tiny_base)

    def swept(name: str, replies: list[str]) -> list[dict[str, Any]]:
        """A sweep whose judge writes these replies, two to an arm."""
        left = iter(replies)
        with judging(lambda question: completion(next(left))) as seen:
            monkeypatch.setenv("THOUSAND_JUDGE_URL", seen.url)
            monkeypatch.setenv("THOUSAND_JUDGE_MODEL", "m")
            settings.cache_clear()
            done = thousand("train", "sweep", file, "--name", name)
        assert done.code == 0, done.err
        return results(name)

    for name, grades, best in (("second", "1166", "second-2"), ("first", "6611", "first-1")):
        one, other = swept(name, [f"Grade: {grade}" for grade in grades])
        assert [line["standing"]["by"] for line in (one, other)] == ["grades", "grades"]
        assert [line["standing"]["best"] for line in (one, other)] == [best, best]
        assert [line["standing"]["score"] for line in (one, other)] == [one["graded"], other["graded"]]
        assert (one if best == "second-2" else other)["standing"]["behind"]["low"] > 0
    one, other = swept("partly", ["Grade: 1", "Grade: 6", "fine", "fine"])
    assert [line["standing"]["by"] for line in (one, other)] == ["program", "program"]
    assert (one["graded"] is None, other["graded"]) == (False, None)


def test_a_run_of_an_arms_name_that_is_another_is_refused(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    file = two_arms(dialogues_file, tiny_base)
    begin_run("two-1", str(tiny_base), preset("laptop"), [dialogues_file], None, quiet)
    refused = thousand("train", "sweep", file)
    assert refused.code == 1
    assert "There is a run 'two-1' already, and it is no arm of this sweep" in refused.err
    for difference in (
        "epochs",
        "learning_rate",
        "dialogues_per_step",
        "dev_tokens",
        "the dev prompts that come along",
    ):
        assert difference in refused.err
    assert "precision" not in refused.err
    assert not (settings().home / "sweeps" / "two" / "results.jsonl").exists()


def test_whatever_arms_are_compared_by_cannot_change_in_between(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shutil.copytree(tiny_base, dialogues_file.parent / "base")
    file = two_arms(dialogues_file, base)
    open_sweep(file, None, quiet)
    dev = dialogues_file.parent / "dev" / "two.jsonl"
    for changed in (dialogues_file, dev, base / "model.safetensors"):
        changed.write_bytes(changed.read_bytes() + b"\n")
    monkeypatch.setenv("THOUSAND_JUDGE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("THOUSAND_JUDGE_MODEL", "m")
    settings.cache_clear()
    refused = thousand("train", "sweep", file)
    assert refused.code == 1
    assert (
        f"Changed since the sweep 'two' began: the data file {dialogues_file}; the base {base}; the dev prompts {dev}; "
        "the judge (it was none: unset THOUSAND_JUDGE_URL). " in refused.err
    )
    assert str(file) not in refused.err
    assert not runs_folder().exists()


def test_an_arm_that_runs_out_of_memory_goes_on_in_smaller_micro_batches(
    thousand: Command, dialogues_file: Path, home: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = two_arms(dialogues_file, tiny_base)
    step = trainer.StepTrainer.training_step
    failed: list[int] = []

    def greedy(self: trainer.StepTrainer, *arguments: object) -> torch.Tensor:
        if self.state.global_step == 1 and not failed:
            failed.append(1)
            torch.empty(psutil.virtual_memory().total * 1000, dtype=torch.uint8)
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.StepTrainer, "training_step", greedy)
        done = thousand("train", "sweep", grid, "--name", "tight")
    assert done.code == 0, done.err
    assert "tight-1: out of memory; goes on with tokens_per_micro_batch at 512" in done.err
    assert thousand("train", "sweep", grid, "--name", "wide").code == 0
    tight, wide = (
        {one["changes"]["learning_rate"]: one["score"] for one in results(name)} for name in ("tight", "wide")
    )
    assert tight == wide
