"""A sweep's grid: its file, its arms, and what it was begun with."""

import itertools
import math
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.base_model import Say
from assistant.dialogue import data_files
from assistant.errors import ThousandError, validation_sentence
from assistant.files import sha256, write_text
from assistant.release import NAME
from assistant.settings import bundled, settings
from train import processes
from train.recipe import Recipe, changed, preset
from train.run import Material, material

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


class Begun(Material):
    """What a sweep was begun with; saved as `sweep.json`."""

    grid_sha256: str


@dataclass(frozen=True)
class Arm:
    """One combination of numbers."""

    name: str
    changes: dict[str, Value]
    recipe: Recipe

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.changes.items())


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
    def begun(self) -> Begun:
        """What it was begun with."""
        return Begun.model_validate_json((self.folder / "sweep.json").read_bytes())

    @property
    def files(self) -> list[Path]:
        """The data of every arm."""
        return data_files([self.beside / path for path in self.grid.data] or [bundled("dialogues")])

    @property
    def dev(self) -> Path | None:
        """The dev prompts of every arm; None stands for those that come along."""
        return None if self.grid.dev is None else self.beside / self.grid.dev

    @property
    def arms(self) -> list[Arm]:
        """Every arm, in the order of the grid. Raises ThousandError for a number that no recipe has, and for equal arms."""
        names = list(self.grid.grid)
        combined = [dict(zip(names, values, strict=True)) for values in itertools.product(*self.grid.grid.values())]
        every = [*(combined if names else []), *self.grid.arms]
        if not every:
            raise ThousandError(f"The grid {self.name} has no arms: give lists under [grid], or [[arms]].")
        width = len(str(len(every)))
        arms = [
            Arm(f"{self.name}-{number:0{width}}", changes, self._recipe(changes))
            for number, changes in enumerate(every, 1)
        ]
        _check_distinct(arms)
        return arms

    def _recipe(self, changes: dict[str, Value]) -> Recipe:
        every = {**self.grid.numbers, **changes}
        return changed(preset(self.grid.recipe), [f"{name}={value}" for name, value in every.items()])


def _check_distinct(arms: list[Arm]) -> None:
    alike: dict[Recipe, list[Arm]] = defaultdict(list)
    for arm in arms:
        alike[arm.recipe].append(arm)
    same = [f"{' and '.join(arm.name for arm in some)} ({some[0]})" for some in alike.values() if len(some) > 1]
    if same:
        raise ThousandError(f"Arms that are one recipe: {'; '.join(same)}. Leave all but one of each out of the grid.")


def open_sweep(file: Path, name: str | None, say: Say) -> Sweep:
    """A sweep, begun or gone on with.

    Raises ThousandError for a grid that cannot be read, what `train.run.material` raises, and ThousandError naming what has
    changed since the sweep began: its grid, data, dev prompts, base or judge.
    """
    if processes.count() > 1:
        raise ThousandError("A sweep runs in one process; start it without accelerate or torchrun.")
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
    _, made_from = material(grid.base, sweep.files, sweep.dev, say)
    _begin(sweep, file, Begun(grid_sha256=sha256(file), **made_from.model_dump()))
    return sweep


def _begin(sweep: Sweep, file: Path, now: Begun) -> None:
    kept = sweep.folder / "sweep.json"
    if not kept.exists():
        write_text(kept, now.model_dump_json(indent=2) + "\n")
        return
    try:
        then = Begun.model_validate_json(kept.read_bytes())
    except ValidationError as error:
        raise ThousandError(
            f"{kept} cannot be gone on with: {validation_sentence(error)}. Give the sweep another --name."
        ) from None
    changed_since = [*([str(file)] if now.grid_sha256 != then.grid_sha256 else []), *now.other_than(then)]
    if changed_since:
        raise ThousandError(
            f"Changed since the sweep {sweep.name!r} began: {'; '.join(changed_since)}. "
            "Arms are compared on equal terms: put it back, or give the new sweep another --name."
        )
