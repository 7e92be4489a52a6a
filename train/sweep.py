"""A sweep over a recipe's numbers by successive halving (Jamieson and Talwalkar 2016; Li et al. 2018, section 3.1).

Every combination of the grid's lists is an arm, and every arm is a run of its own. All are trained to the first rung and
judged there by what they say to the dev prompts; the better ones go on to the next, from where they stopped, and the last
rung is each one's end. A sweep that was interrupted goes on where it was: what is done stands in `results.jsonl`.
"""

import contextlib
import gc
import itertools
import math
import os
import shlex
import shutil
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.table import Table

from assistant.base_model import Say
from assistant.dialogue import data_files
from assistant.errors import ThousandError, validation_sentence
from assistant.files import sha256, write_text
from assistant.release import NAME
from assistant.settings import bundled, settings
from train import processes
from train.fit import Interrupted
from train.recipe import Recipe, changed, preset
from train.run import begin_run, read_run, runs_folder
from train.session import train_and_choose
from train.watch import Step

Value = str | int | float


class Grid(BaseModel):
    """A sweep as its TOML file says it."""

    model_config = ConfigDict(extra="forbid")

    recipe: str = "laptop"
    base: str | None = None
    data: list[Path] = []
    """Files or folders, by their places beside the grid's file; without any the data that comes along."""
    dev: Path | None = None
    rungs: list[float] = Field([], max_length=10)
    """How many epochs of the data an arm is trained for before the worse ones are left; rising."""
    keep: float = Field(0.5, gt=0, lt=1)
    """The share of the arms that goes on from a rung, rounded up."""
    numbers: dict[str, Value] = {}
    """What all arms change in the recipe."""
    grid: dict[str, list[Value]] = {}
    """Every combination of these is an arm."""
    arms: list[dict[str, Value]] = []
    """Further arms, one by one."""


class Result(BaseModel):
    """An arm at a rung; a line of `results.jsonl`."""

    model_config = ConfigDict(extra="forbid")

    arm: str
    rung: int
    last: bool
    """Trained to its end."""
    step: int
    changes: dict[str, Value]
    score: float
    low: float
    high: float
    stop_rate: float
    dev_loss: float
    checks: float | None
    words: float
    seconds: float
    """In training, from the arm's beginning."""
    cpu_seconds: float
    """All processors' time for this rung, judging included."""


@dataclass(frozen=True)
class Arm:
    """One combination of numbers."""

    name: str
    changes: dict[str, Value]
    recipe: Recipe


@dataclass(frozen=True)
class Sweep:
    """A grid with its place on the disk."""

    name: str
    grid: Grid
    folder: Path
    beside: Path

    @property
    def results_file(self) -> Path:
        """One line for each arm at each rung."""
        return self.folder / "results.jsonl"

    @property
    def arms(self) -> list[Arm]:
        """Every arm, in the order of the grid. Raises ThousandError for a number that no recipe has."""
        names = list(self.grid.grid)
        combined = [dict(zip(names, values, strict=True)) for values in itertools.product(*self.grid.grid.values())]
        every = [*(combined if names else []), *self.grid.arms]
        if not every:
            raise ThousandError(f"The grid {self.name} has no arms: give lists under [grid], or [[arms]].")
        width = len(str(len(every)))
        return [
            Arm(f"{self.name}-{number:0{width}}", changes, self._recipe(changes))
            for number, changes in enumerate(every, 1)
        ]

    def _recipe(self, changes: dict[str, Value]) -> Recipe:
        every = {**self.grid.numbers, **changes}
        return changed(preset(self.grid.recipe), [f"{name}={value}" for name, value in every.items()])

    def results(self) -> list[Result]:
        """What is done."""
        if not self.results_file.exists():
            return []
        found = []
        for line in self.results_file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValidationError):  # cut by a crash; that arm is judged again
                found.append(Result.model_validate_json(line))
        return found


def open_sweep(file: Path, name: str | None) -> Sweep:
    """A sweep, begun or gone on with. Raises ThousandError for a grid that cannot be read, or has changed since it began."""
    name = file.stem.lower() if name is None else name
    if not NAME.fullmatch(name):
        raise ThousandError(
            f"{name!r} is no name for a sweep: use small letters, digits, dots and hyphens; give one with --name."
        )
    try:
        grid = Grid.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ThousandError(f"{file} is no TOML: {error}") from None
    except ValidationError as error:
        raise ThousandError(f"{file}: {validation_sentence(error)}") from None
    if sorted(set(grid.rungs)) != grid.rungs or not all(0 < rung < math.inf for rung in grid.rungs):
        raise ThousandError(f"{file}: rungs must be epochs above 0 that rise, such as [0.25, 1].")
    sweep = Sweep(name, grid, settings().home / "sweeps" / name, file.parent)
    sweep.arms  # noqa: B018 (a bad number is an error before anything is trained)
    kept, digest = sweep.folder / "grid.sha256", sha256(file)
    if kept.exists() and kept.read_text(encoding="utf-8") != digest:
        raise ThousandError(f"{file} has changed since the sweep {name!r} began; give the new one another --name.")
    write_text(kept, digest)
    return sweep


def run_sweep(sweep: Sweep, report: Callable[[str, Step], None], say: Say) -> list[Result]:
    """Train and judge what is not done yet; returns every result, the latest of an arm last."""
    going = sweep.arms
    rungs: list[float | None] = [*sweep.grid.rungs, None]
    for number, epochs in enumerate(rungs):
        at_rung = [_result(sweep, arm, number, epochs, report, say) for arm in going]
        if epochs is None:
            break
        best = sorted(at_rung, key=lambda result: -result.score)[: math.ceil(len(going) * sweep.grid.keep)]
        names = {result.arm for result in best}
        for arm in going:
            if arm.name not in names:
                shutil.rmtree(runs_folder() / arm.name / "checkpoints", ignore_errors=True)
        going = [arm for arm in going if arm.name in names]
        say(f"rung {number + 1}: {len(names)} of {len(at_rung)} arms go on: {', '.join(sorted(names))}")
    return sweep.results()


def _result(
    sweep: Sweep, arm: Arm, rung: int, epochs: float | None, report: Callable[[str, Step], None], say: Say
) -> Result:
    if processes.count() > 1:
        raise ThousandError("A sweep runs in one process; start it without accelerate or torchrun.")
    known = next((one for one in sweep.results() if (one.arm, one.rung) == (arm.name, rung)), None)
    if known is not None:
        return known
    if not (runs_folder() / arm.name / "run.json").exists():
        data = [sweep.beside / path for path in sweep.grid.data] or [bundled("dialogues")]
        dev = None if sweep.grid.dev is None else sweep.beside / sweep.grid.dev
        begin_run(arm.name, sweep.grid.base, arm.recipe, data_files(data), dev, say)
    say(f"{arm.name}: {_spelled(arm.changes)}")
    before = _cpu_seconds()
    try:
        chosen = train_and_choose(read_run(arm.name), lambda step: report(arm.name, step), say, until_epoch=epochs)
    except Interrupted:
        raise Interrupted(f"Stopped in {arm.name}, which is saved. Go on with the same command.") from None
    assert chosen is not None  # of several processes, which a sweep has not, the others return None
    scored = chosen.scored if epochs is None else max(chosen.candidates, key=lambda one: one.step)
    result = Result(
        arm=arm.name,
        rung=rung,
        last=epochs is None,
        step=scored.step,
        changes=arm.changes,
        score=scored.score.mean,
        low=scored.score.low,
        high=scored.score.high,
        stop_rate=scored.stop_rate,
        dev_loss=scored.dev_loss,
        checks=scored.parts.get("checks"),
        words=scored.words,
        seconds=chosen.fitted.measured["seconds"],
        cpu_seconds=round(_cpu_seconds() - before, 1),
    )
    with sweep.results_file.open("a", encoding="utf-8") as file:
        torn = sweep.results_file.stat().st_size and not sweep.results_file.read_bytes().endswith(b"\n")
        file.write(("\n" if torn else "") + result.model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    del chosen
    gc.collect()  # an arm's model is part of cycles, and would wait beside the next one's
    return result


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _spelled(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes.items())


def latest(results: Sequence[Result]) -> list[Result]:
    """The last result of each arm: those that went furthest first, the better first among them."""
    of_arm = {result.arm: result for result in sorted(results, key=lambda result: result.rung)}
    return sorted(of_arm.values(), key=lambda result: (-result.rung, -result.score))


def table(results: Sequence[Result]) -> Table:
    """Every arm where it ended."""
    numbers = list(dict.fromkeys(name for result in results for name in result.changes))
    shown = Table("arm", *numbers, "rung", "step", "score", "stopped", "checks", "dev loss", "words", "min", box=None)
    for result in latest(results):
        shown.add_row(
            result.arm,
            *[str(result.changes.get(name, "")) for name in numbers],
            "end" if result.last else str(result.rung + 1),
            str(result.step),
            f"{result.score:.3f} [{result.low:.3f}, {result.high:.3f}]",
            f"{result.stop_rate:.0%}",
            "" if result.checks is None else f"{result.checks:.2f}",
            f"{result.dev_loss:.3f}",
            f"{result.words:.0f}",
            f"{result.seconds / 60:.1f}",
        )
    return shown


def best_command(sweep: Sweep, results: Sequence[Result]) -> str:
    """The command that trains a release by the best arm's recipe."""
    changes = {**sweep.grid.numbers, **latest(results)[0].changes}
    words = ["thousand", "train"]
    if sweep.grid.recipe != "laptop":
        words += ["--recipe", sweep.grid.recipe]
    if sweep.grid.base is not None:
        words += ["--base", sweep.grid.base]
    for path in sweep.grid.data:
        words += ["--data", str(sweep.beside / path)]
    if sweep.grid.dev is not None:
        words += ["--dev", str(sweep.beside / sweep.grid.dev)]
    for name, value in changes.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)
