"""Memory that will not do, or that runs out: which number to lower, by how much, and the command that goes on."""

import re
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from assistant import release
from tests.conftest import Command, short_dev
from tests.invariants.test_training import largest_difference, train, weights
from train import memory, trainer
from train.run import runs_folder


def test_weights_that_are_still_to_be_moved_to_the_gpu_take_room_there() -> None:
    layer = torch.nn.Linear(3, 5, dtype=torch.bfloat16)
    assert memory.to_be_moved(layer, torch.device("cuda")) == 2 * (3 * 5 + 5)
    assert memory.to_be_moved(layer, torch.device("cpu")) == 0


def test_too_little_memory_is_said_before_the_first_step_with_the_number_that_fits(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--base", tiny_base, "--data", dialogues_file, *short_dev(dialogues_file), "--set", "epochs=1", "--name"]
    taken: list[tuple[float, float]] = []
    needed = memory.needed

    def seen(*arguments: Any, **named: Any) -> tuple[float, float]:
        taken.append(needed(*arguments, **named))
        return taken[-1]

    monkeypatch.setattr(memory, "needed", seen)
    assert thousand("train", *options, "enough").code == 0
    fixed, each = taken[0]
    assert 1e3 < each < 1e5, "a tiny model of three layers"

    def only(tokens: int) -> None:
        monkeypatch.setattr(memory, "available", lambda: (fixed + tokens * each) / 0.85 + 1)

    only(400)
    refused = thousand("train", *options, "small")
    assert refused.code == 1
    assert "lower tokens_per_micro_batch from 1024 to 400, with --set tokens_per_micro_batch=400." in refused.err
    assert not (runs_folder() / "small").exists(), "the name is free for another try"
    assert thousand("train", *options, "small", "--set", "tokens_per_micro_batch=400").code == 0

    only(100)
    refused = thousand("train", *options, "smaller")
    assert "lower max_tokens from 1024 to 100 (longer dialogues are cut), with --set max_tokens=100 --set tokens" in (
        refused.err
    )
    changes = ["--set", "max_tokens=100", "--set", "tokens_per_micro_batch=100"]
    assert thousand("train", *options, "smaller", *changes).code == 0

    only(10)
    assert "choose a smaller base model" in thousand("train", *options, "smallest").err


def test_running_out_of_memory_in_the_middle_says_how_to_go_on_with_less(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ("epochs=4", "dialogues_per_step=4", "checkpoint_steps=3")
    train(thousand, tiny_base, dialogues_file, "whole", *changes)
    step = trainer.StepTrainer.training_step

    def greedy(self: trainer.StepTrainer, *arguments: object) -> torch.Tensor:
        if self.state.global_step == 4:
            torch.empty(psutil.virtual_memory().total * 1000, dtype=torch.uint8)
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.StepTrainer, "training_step", greedy)
        options = [word for change in ("precision=float32", *changes) for word in ("--set", change)]
        result = thousand(
            "train",
            "--base",
            tiny_base,
            "--data",
            dialogues_file,
            *short_dev(dialogues_file),
            "--name",
            "big",
            *options,
        )
    assert result.code == 1
    advice = re.search(r"Out of memory; lower tokens_per_micro_batch from 1024 to 512: thousand (.*)", result.err)
    assert advice, result.err
    assert advice[1] == "train --resume big --set tokens_per_micro_batch=512"
    assert thousand(*advice[1].split()).code == 0
    assert largest_difference(weights(release.path("big")), weights(release.path("whole"))) < 1e-3  # bfloat16 files
