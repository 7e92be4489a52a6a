"""A run: what was asked for, written down before its first step, so that it can be resumed and told of."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from assistant import release
from assistant.base_model import Base
from assistant.errors import ThousandError
from assistant.files import sha256, write_text
from assistant.settings import settings
from train.recipe import Recipe


def runs_folder() -> Path:
    """Where runs live."""
    return settings().home / "runs"


class Run(BaseModel):
    """What makes a run what it is; saved as `run.json` before its first step."""

    model_config = ConfigDict(extra="forbid")

    name: str
    base: str
    base_checksum: str
    recipe: Recipe
    files: dict[str, str]
    """Absolute path of each data file to its SHA-256."""

    @property
    def folder(self) -> Path:
        return runs_folder() / self.name

    @property
    def log(self) -> Path:
        """One line of measurements for each step."""
        return self.folder / "log.jsonl"

    @property
    def sources(self) -> list[Path]:
        return [Path(file) for file in self.files]


def default_name(recipe: str) -> str:
    """A name for a run that was given none: the recipe and the time."""
    return f"{recipe}-{release.now():%Y%m%d-%H%M%S}"


def new_run(name: str, base: Base, recipe: Recipe, files: Sequence[Path]) -> Run:
    """Begin a run: its folder and `run.json`. Raises ThousandError when the name is taken or is no name."""
    if not release.NAME.fullmatch(name):
        raise ThousandError(
            f"{name!r} is no name for a release: use small letters, digits, dots and hyphens, at most 64."
        )
    digests = {str(file): sha256(file) for file in files}
    run = Run(name=name, base=base.name, base_checksum=base.checksum, recipe=recipe, files=digests)
    if run.folder.exists() or (release.folder() / name).exists() or name in release.bundled_names():
        raise ThousandError(
            f"There is a run or a release named {name!r} already; choose another --name, or: thousand train --resume {name}"
        )
    write_text(run.folder / "run.json", run.model_dump_json(indent=2) + "\n")
    return run


def open_run(name: str) -> Run:
    """An earlier run, to go on with.

    Raises ThousandError when there is none, when it is finished, or when its data has changed since.
    """
    file = runs_folder() / name / "run.json"
    if not release.NAME.fullmatch(name) or not file.exists():
        known = ", ".join(sorted(path.parent.name for path in runs_folder().glob("*/run.json"))) or "none yet"
        raise ThousandError(f"There is no run {name!r} to resume; runs: {known}")
    if (release.folder() / name).exists():
        raise ThousandError(f"The run {name!r} is finished; its release is {name}.")
    run = Run.model_validate_json(file.read_text(encoding="utf-8"))
    check_data(run)
    return run


def check_data(run: Run) -> None:
    """Raises ThousandError naming a data file that is not as it was when the run began."""
    for path, digest in run.files.items():
        if not Path(path).exists() or sha256(Path(path)) != digest:
            raise ThousandError(
                f"{path} has changed since the run {run.name!r} began, so it cannot go on; start a new run with: thousand train"
            )
