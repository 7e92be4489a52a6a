"""A run: what was asked for, written down before its first step, so that it can be resumed and told of."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from assistant import base_model, release
from assistant.base_model import Say
from assistant.dialogue import read_dialogues
from assistant.errors import ThousandError, validation_sentence
from assistant.files import sha256, write_text
from assistant.precision import fast_dtype
from assistant.settings import settings
from assistant.template import Template
from assistant.vocabulary import kept_rows
from evaluation.dev import prompts_file, read_prompts
from evaluation.quality import reference
from train.recipe import Recipe, changed


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
    dev: str | None = None
    """Absolute path of the dev prompts; None stands for those that come along."""
    dev_sha256: str

    @property
    def folder(self) -> Path:
        return runs_folder() / self.name

    @property
    def log(self) -> Path:
        """One line of measurements for each step."""
        return self.folder / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return self.folder / "checkpoints"

    @property
    def sources(self) -> list[Path]:
        return [Path(file) for file in self.files]


def default_name(recipe: str) -> str:
    """A name for a run that was given none: the recipe and the time."""
    return f"{recipe}-{release.now():%Y%m%d-%H%M%S}"


def begin_run(
    name: str | None, base: str | None, recipe: Recipe, files: Sequence[Path], dev: Path | None, say: Say
) -> Run:
    """Begin a run: every file is read, then its folder and `run.json` are made.

    Raises BadData with every bad line, ThousandError when the name is taken or is no name, or the base cannot be had.
    """
    name = default_name(recipe.preset) if name is None else name
    if not release.NAME.fullmatch(name):
        raise ThousandError(
            f"{name!r} is no name for a release: use small letters, digits, dots and hyphens, at most 64."
        )
    read_dialogues(files)
    for prompt in read_prompts(dev):
        reference(prompt)
    found = base_model.resolve(base_model.EMBEDDED if base is None else base, say)
    Template.load(found.folder, recipe.stop)  # a base that cannot be used is refused before anything is made
    if recipe.vocabulary == "compact" and kept_rows(found.folder / "tokenizer.json") is None:
        say(f"No compact vocabulary comes along for the tokenizer of {found.name}; it keeps its full one")
        recipe = recipe.model_copy(update={"vocabulary": "full"})
    if recipe.precision == "auto":
        recipe = recipe.model_copy(update={"precision": "bfloat16" if fast_dtype() == torch.bfloat16 else "float32"})
    run = Run(
        name=name,
        base=found.name,
        base_checksum=found.checksum,
        recipe=recipe,
        files={str(file): sha256(file) for file in files},
        dev=None if dev is None else str(dev.absolute()),
        dev_sha256=sha256(prompts_file(dev)),
    )
    if (run.folder / "run.json").exists() or (release.folder() / name).exists() or name in release.bundled_names():
        raise ThousandError(
            f"There is a run or a release named {name!r} already; choose another --name, or: thousand train --resume {name}"
        )
    save(run)
    return run


def save(run: Run) -> None:
    """Write a run's `run.json`."""
    write_text(run.folder / "run.json", run.model_dump_json(indent=2) + "\n")


def read_run(name: str) -> Run:
    """The record of a run. Raises ThousandError when there is none of that name, or it is of another version."""
    file = runs_folder() / name / "run.json"
    if not release.NAME.fullmatch(name) or not file.exists():
        known = ", ".join(sorted(path.parent.name for path in runs_folder().glob("*/run.json"))) or "none yet"
        raise ThousandError(f"There is no run {name!r} to resume; runs: {known}")
    try:
        return Run.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ThousandError(f"{file} cannot be gone on with: {validation_sentence(error)}. Start a new run.") from None


def resume_run(name: str, changes: Sequence[str]) -> Run:
    """An earlier run, to go on with; `changes` may lower what memory it takes, which changes nothing that is learnt.

    Raises ThousandError when there is none, when it is finished, when its data has changed since, or when a change would
    make it another run.
    """
    run = read_run(name)
    if (release.folder() / name).exists():
        raise ThousandError(f"The run {name!r} is finished; its release is {name}.")
    check_data(run)
    recipe = changed(run.recipe, changes)
    other = [key for key, value in recipe.model_dump().items() if value != getattr(run.recipe, key)]
    if set(other) - {"tokens_per_micro_batch"}:
        raise ThousandError(f"--resume goes on with a run as it was begun: {', '.join(other)} cannot change.")
    if other:
        run = run.model_copy(update={"recipe": recipe})
        save(run)
    return run


def check_data(run: Run) -> None:
    """Raises ThousandError naming a data file that is not as it was when the run began."""
    held_out = str(prompts_file(None if run.dev is None else Path(run.dev)))
    for path, digest in {**run.files, held_out: run.dev_sha256}.items():
        if not Path(path).exists() or sha256(Path(path)) != digest:
            raise ThousandError(
                f"{path} has changed since the run {run.name!r} began, so it cannot go on; start a new run with: thousand train"
            )
