"""Whatever stops a run, nothing is half-written, the last good checkpoint is whole, and the next command is said."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from assistant import release, settings
from assistant.base_model import quiet
from tests.conftest import Command, short_dev, write_dialogues
from tests.invariants.test_training import largest_difference, log_of, train, weights
from train import make_release, trainer
from train.recipe import preset
from train.run import begin_run, runs_folder
from train.trainer import whole_checkpoints

RECIPE = ("epochs=8", "dialogues_per_step=4", "residual_dropout=0.2", "checkpoint_steps=3")


def command(base: Path, data: Path, name: str) -> list[str]:
    options = [word for change in RECIPE for word in ("--set", change)]
    chosen = ["--base", str(base), "--data", str(data), *short_dev(data), "--name", name]
    return [sys.executable, "-m", "assistant", "train", *chosen, *options]


@pytest.fixture(scope="module")
def whole_home(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A THOUSAND_HOME with a run that nothing stopped, in a process of its own like those that are."""
    place = tmp_path_factory.mktemp("whole")
    data = place / "mine.jsonl"
    write_dialogues(data)
    environment = {**os.environ, "THOUSAND_HOME": str(place / "home")}
    done = subprocess.run(
        command(tiny_base, data, "whole"), env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def whole(whole_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The data that the run `whole` was trained on, with its THOUSAND_HOME as this test's."""
    monkeypatch.setenv("THOUSAND_HOME", str(whole_home / "home"))
    settings.settings.cache_clear()
    yield whole_home / "mine.jsonl"
    settings.settings.cache_clear()


def same_run(name: str, whole: str) -> None:
    assert [line["loss"] for line in log_of(name)] == [line["loss"] for line in log_of(whole)]
    assert largest_difference(weights(release.path(name)), weights(release.path(whole))) == 0


def resume(name: str) -> None:
    go_on = [sys.executable, "-m", "assistant", "train", "--resume", name]
    done = subprocess.run(go_on, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def killed_at(step: int, base: Path, data: Path, name: str) -> None:
    """Start a run and kill it without warning as soon as its log holds `step`."""
    running = subprocess.Popen(command(base, data, name), stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if re.match(rf"training {step}/", line):
            running.kill()
    assert running.wait(120) == -signal.SIGKILL


@pytest.mark.parametrize("step", [2, 5, 13])
def test_truth_3_killed_without_warning_and_resumed_equals_never_interrupted(
    whole: Path, tiny_base: Path, step: int
) -> None:
    name = f"killed-{step}"
    killed_at(step, tiny_base, whole, name)
    assert not (release.folder() / name).exists()
    resume(name)
    same_run(name, "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_truth_3_a_signal_saves_a_checkpoint_and_says_how_to_go_on(
    whole: Path, tiny_base: Path, number: signal.Signals
) -> None:
    name = f"ended-{number.value}"
    running = subprocess.Popen(command(tiny_base, whole, name), stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    said = ""
    for line in running.stderr:
        said += line
        if line.startswith("training 2/"):
            running.send_signal(number)
    assert running.wait(120) == 1
    assert f"the checkpoint is saved. Go on with: thousand train --resume {name}" in said
    assert "Traceback" not in said
    assert not (release.folder() / name).exists()
    (checkpoint,) = whole_checkpoints(runs_folder() / name / "checkpoints")
    assert int(checkpoint.name.rpartition("-")[2]) < 20
    resume(name)
    same_run(name, "whole")


def test_a_full_disk_in_the_middle_of_a_checkpoint_leaves_the_one_before(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ("epochs=4", "dialogues_per_step=4", "checkpoint_steps=3")
    train(thousand, tiny_base, dialogues_file, "whole", *changes)
    written = 0

    def full(folder: Path) -> None:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "sync_files", full)
        options = [word for change in ("precision=float32", *changes) for word in ("--set", change)]
        result = thousand(
            "train",
            "--base",
            tiny_base,
            "--data",
            dialogues_file,
            *short_dev(dialogues_file),
            "--name",
            "full",
            *options,
        )
    assert result.code == 1
    assert "No space left on device. Free some space" in result.err
    assert "thousand train --resume full" in result.err
    checkpoints = runs_folder() / "full" / "checkpoints"
    assert [path.name for path in whole_checkpoints(checkpoints)] == ["checkpoint-3"]
    assert (checkpoints / "checkpoint-3" / "optimizer.pt").exists()
    assert thousand("train", "--resume", "full").code == 0
    same_run("full", "whole")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_full_disk_while_the_release_is_written_leaves_none_and_resuming_makes_it_without_training(
    thousand: Command,
    home: Path,
    tiny_base: Path,
    dialogues_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    def full(_: dict[str, torch.Tensor], place: Path, **__: Any) -> None:
        Path(place).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    options = ["--base", tiny_base, "--data", dialogues_file, *short_dev(dialogues_file), "--name", "full"]
    with monkeypatch.context() as patched:
        patched.setattr(make_release, "save_file", full)
        patched.setattr("transformers.modeling_utils.safe_save_file", full)
        changes = ["--method", method, "--set", "epochs=0.5", "--set", "precision=float32"]
        result = thousand("train", *options, *changes)
    assert result.code == 1
    assert "No space left on device. Free some space" in result.err
    assert result.err.rstrip().endswith("Then: thousand train --resume full")
    assert not list(release.folder().iterdir())
    log = log_of("full")
    resumed = thousand("train", "--resume", "full")
    assert resumed.code == 0, resumed.err
    assert "training" not in resumed.err and log_of("full") == log
    assert release.read(release.path("full")).chosen_step == log[-1]["step"]


def test_the_log_is_on_the_disk_before_its_checkpoint_counts(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, synced = runs_folder() / "safe" / "log.jsonl", 0
    sync, write = os.fsync, trainer.write_text

    def counted(descriptor: int) -> None:
        nonlocal synced
        sync(descriptor)
        if log.exists() and os.fstat(descriptor).st_ino == log.stat().st_ino:
            synced = len(log.read_text().splitlines())

    def whole(file: Path, text: str) -> None:
        assert synced == int(file.parent.name.rpartition("-")[2]), "a power cut now would lose lines"
        write(file, text)

    monkeypatch.setattr(os, "fsync", counted)
    monkeypatch.setattr(trainer, "write_text", whole)
    train(thousand, tiny_base, dialogues_file, "safe", "epochs=1", "dialogues_per_step=4", "checkpoint_steps=2")
    assert synced == 3


def test_another_judge_than_at_the_beginning_is_refused_at_once(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged_by(url: str | None, model: str | None = "m") -> None:
        for name, value in (("URL", url), ("MODEL", model), ("KEY", "secret")):
            if value is None:
                monkeypatch.delenv(f"THOUSAND_JUDGE_{name}", raising=False)
            else:
                monkeypatch.setenv(f"THOUSAND_JUDGE_{name}", value)
        settings.settings.cache_clear()

    judged_by("nowhere")
    bad = thousand("train", "--base", tiny_base, "--data", dialogues_file, "--name", "judged")
    assert bad.code == 1
    assert "THOUSAND_JUDGE_URL is 'nowhere', no address" in bad.err
    assert not runs_folder().exists()

    dev = dialogues_file.parent / "dev" / "two.jsonl"
    judged_by("http://127.0.0.1:1/v1/")
    begin_run("judged", str(tiny_base), preset("laptop"), [dialogues_file], dev, quiet)
    judged_by(None)
    begin_run("unjudged", str(tiny_base), preset("laptop"), [dialogues_file], dev, quiet)
    assert "secret" not in (runs_folder() / "judged" / "run.json").read_text()
    lost = thousand("train", "--resume", "judged")
    assert lost.code == 1
    assert "was m at http://127.0.0.1:1/v1 when it began" in lost.err
    assert "set THOUSAND_JUDGE_URL=http://127.0.0.1:1/v1 and THOUSAND_JUDGE_MODEL=m, and go on with" in lost.err
    judged_by("http://127.0.0.1:1/v1", "another")
    assert thousand("train", "--resume", "judged").err == lost.err
    new = thousand("train", "--resume", "unjudged")
    assert new.code == 1
    assert "unset THOUSAND_JUDGE_URL, and go on with: thousand train --resume unjudged" in new.err


def test_dev_prompts_that_the_model_cannot_read_are_named_before_the_first_step(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    dev = dialogues_file.parent / "dev" / "long.jsonl"
    lines = []
    for asked, answered in ((1, 1), (600, 1), (1, 600), (1, 1)):
        asked_text, answered_text = "why " * asked, "so it is. " * answered
        messages = [{"role": "user", "content": asked_text}, {"role": "assistant", "content": answered_text}]
        lines.append(json.dumps({"id": f"dev-{len(lines)}", "messages": messages}) + "\n")
    dev.write_text("".join(lines))
    result = thousand("train", "--base", tiny_base, "--data", dialogues_file, "--dev", dev, "--name", "long")
    assert result.code == 1
    said = re.findall(r"long\.jsonl:(\d): has \d+ tokens with its reference, and the base model reads 512", result.err)
    assert said == ["2", "3"]
    assert "training" not in result.err
    assert not (runs_folder() / "long").exists()


def test_a_torn_last_line_of_the_log_is_measured_again(whole: Path, tiny_base: Path) -> None:
    killed_at(5, tiny_base, whole, "torn")
    log = runs_folder() / "torn" / "log.jsonl"
    log.write_text(log.read_text()[:-20])
    resume("torn")
    same_run("torn", "whole")


def test_a_resumed_run_cannot_become_another(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    killed_at(5, tiny_base, dialogues_file, "killed")
    result = thousand("train", "--resume", "killed", "--set", "learning_rate=1e-3")
    assert result.code == 1
    assert "learning_rate cannot change" in result.err
