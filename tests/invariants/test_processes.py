"""Several processes learn what one learns, speak with one voice, and part before they end."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from assistant import console, release
from tests.conftest import Command, short_dev
from tests.invariants.test_training import largest_difference, log_of, train, weights


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_several_processes_only_the_first_draws_a_bar(monkeypatch: pytest.MonkeyPatch, rank: str) -> None:
    monkeypatch.setenv("RANK", rank)
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(console, "err", terminal)
    with console.bar("training") as advance:
        advance(1, 2, "loss 3.000")
    drawn = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert ("training" in drawn) == bool(drawn) == (rank == "0")


@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--nproc-per-node", "2", "-m"],
        ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "-m"],
    ],
    ids=["torchrun", "accelerate"],
)
def test_two_processes_equal_one(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, launcher: list[str]
) -> None:
    changes = ("epochs=2.3", "dialogues_per_step=8", "learning_rate=1e-3")
    train(thousand, tiny_base, dialogues_file, "one", *changes)
    options = [word for change in ("precision=float32", *changes) for word in ("--set", change)]
    chosen = ["--base", str(tiny_base), "--data", str(dialogues_file), *short_dev(dialogues_file), "--name", "two"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "assistant", "train", *chosen, *options],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("dialogues, ") == 1, "one process speaks"
    for one, two in zip(log_of("one"), log_of("two"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=2e-5)
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], abs=2e-4)
    assert largest_difference(weights(release.path("one")), weights(release.path("two"))) < 1e-3  # bfloat16 files


PARTS = """
import atexit, torch.distributed
from pathlib import Path

def threads():
    names = {task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")}
    print("connected" if any("gloo" in name for name in names) else "parted", flush=True)

atexit.register(threads)
from assistant.cli import main
main()
"""


def two(*words: object) -> list[subprocess.Popen[str]]:
    """The command in two processes, without a launcher that would end the one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", PARTS, "train", *map(str, words)],
            env={**common, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at the threads in /proc")
def test_processes_part_before_they_end_also_when_one_of_them_failed(
    home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    options = ["--base", tiny_base, "--data", dialogues_file, *short_dev(dialogues_file)]
    changes = ["--set", "precision=float32", "--set", "dialogues_per_step=4", "--set"]
    done = [one.communicate(timeout=300) for one in two(*options, *changes, "epochs=0.5", "--name", "good")]
    assert [out.splitlines()[-1] for out, _ in done] == ["parted", "parted"], done

    failing = two(*options, *changes, "epochs=0.5", "--name", "good")
    done = [one.communicate(timeout=300) for one in failing]
    assert [one.returncode for one in failing] == [1, 1], done
    assert [out.split() for out, _ in done] == [["parted"], ["parted"]]
    assert "There is a run or a release named 'good' already" in done[0][1]
    assert "The first process failed." in done[1][1]
    assert not any("Traceback" in err or "terminate" in err for _, err in done)

    first, second = two(*options, *changes, "epochs=14", "--name", "killed")
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith("training "):
            first.kill()
    out, err = second.communicate(timeout=300)
    first.communicate()
    assert (second.returncode, out.split()) == (1, ["parted"]), err
    assert err.startswith("Another process has ended; go on from the last checkpoint")
