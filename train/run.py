"""A run: what was asked for, written down before its first step, so that it can be resumed and told of."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from assistant import base_model, release
from assistant.base_model import Base, Say
from assistant.dialogue import read_dialogues
from assistant.errors import ThousandError, validation_sentence
from assistant.files import sha256, write_text
from assistant.precision import fast_dtype
from assistant.settings import settings
from assistant.template import Template
from assistant.vocabulary import kept_rows
from evaluation.dev import prompts_file, read_prompts
from evaluation.judge_model import JudgeName, named_in_settings
from evaluation.quality import reference
from train.recipe import Recipe, changed


def runs_folder() -> Path:
    """Where runs live."""
    return settings().home / "runs"


class Material(BaseModel):
    """What a run is made from, beside the numbers of its recipe."""

    model_config = ConfigDict(extra="forbid")

    base: str
    base_checksum: str
    files: dict[str, str]
    """Absolute path of each data file to its SHA-256."""
    dev: str | None = None
    """Absolute path of the dev prompts; None stands for those that come along."""
    dev_sha256: str
    judge: JudgeName | None = None
    """Who grades the answers, if anyone does; its key is kept nowhere."""

    def other_than(self, known: "Material") -> list[str]:
        """Names what differs from another's, each thing with its path where it has one."""
        files = sorted(
            {path for path, _ in self.files.items() ^ known.files.items()}, key=[*known.files, *self.files].index
        )
        found = [f"the data file {path}" for path in files]
        if (self.base, self.base_checksum) != (known.base, known.base_checksum):
            found.append(f"the base {self.base}")
        if (self.dev, self.dev_sha256) != (known.dev, known.dev_sha256):
            found.append(f"the dev prompts {self.dev or 'that come along'}")
        if self.judge != known.judge:
            found.append(f"the judge (it was {_spelled(known.judge)}: {_set_back(known.judge)})")
        return found


class Run(Material):
    """What makes a run what it is; saved as `run.json` before its first step."""

    name: str
    recipe: Recipe
    replaces: str | None = None
    """The release that its own is to be compared with, and then to replace; None for a run of `thousand train`."""
    ablation: bool = False
    """It is an arm of an ablation, whose command goes on with it."""

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
    def go_on(self) -> str:
        """The command that goes on with it."""
        if self.ablation:
            return "the same thousand evaluate ablate"
        return "thousand retrain" if self.replaces else f"thousand train --resume {self.name}"

    @property
    def anew(self) -> str:
        """The command that begins another in its place."""
        return "thousand retrain --fresh" if self.replaces else "thousand train"

    @property
    def sources(self) -> list[Path]:
        return [Path(file) for file in self.files]


def default_name(recipe: str) -> str:
    """A name for a run that was given none: the recipe and the time."""
    return f"{recipe}-{release.now():%Y%m%d-%H%M%S}"


def _spelled(judge: JudgeName | None) -> str:
    return "none" if judge is None else f"{judge.model} at {judge.url}"


def _set_back(judge: JudgeName | None) -> str:
    if judge is None:
        return "unset THOUSAND_JUDGE_URL"
    return f"set THOUSAND_JUDGE_URL={judge.url} and THOUSAND_JUDGE_MODEL={judge.model}"


def material(base: str | None, files: Sequence[Path], dev: Path | None, say: Say) -> tuple[Base, Material]:
    """What runs are made from, after reading every file.

    Raises BadData with every bad line, ThousandError for a dev prompt without a reference, for a judge that is named in
    part or is no address, and for a base that cannot be had.
    """
    read_dialogues(files)
    for prompt in read_prompts(dev):
        reference(prompt)
    judge = named_in_settings()
    found = base_model.resolve(base_model.EMBEDDED if base is None else base, say)
    return found, Material(
        base=found.name,
        base_checksum=found.checksum,
        files={str(file): sha256(file) for file in files},
        dev=None if dev is None else str(dev.absolute()),
        dev_sha256=sha256(prompts_file(dev)),
        judge=judge,
    )


def begin_run(
    name: str | None,
    base: str | None,
    recipe: Recipe,
    files: Sequence[Path],
    dev: Path | None,
    say: Say,
    *,
    replaces: str | None = None,
    ablation: bool = False,
) -> Run:
    """Begin a run: every file is read, then its folder and `run.json` are made.

    Raises what `material` raises, and ThousandError when the name is taken or is no name, or the base cannot be had.
    """
    name = default_name(recipe.preset) if name is None else name
    if not release.NAME.fullmatch(name):
        raise ThousandError(
            f"{name!r} is no name for a release: use small letters, digits, dots and hyphens, at most 64."
        )
    found, made_from = material(base, files, dev, say)
    Template.load(found.folder, recipe.stop)  # a base that cannot be used is refused before anything is made
    recipe = for_base(recipe, found, say)
    if recipe.precision == "auto":
        recipe = recipe.model_copy(update={"precision": "bfloat16" if fast_dtype() == torch.bfloat16 else "float32"})
    run = Run(name=name, recipe=recipe, replaces=replaces, ablation=ablation, **made_from.model_dump())
    if (run.folder / "run.json").exists() or (release.folder() / name).exists() or name in release.bundled_names():
        raise ThousandError(
            f"There is a run or a release named {name!r} already; choose another --name, or: thousand train --resume {name}"
        )
    save(run)
    return run


def for_base(recipe: Recipe, base: Base, say: Say) -> Recipe:
    """The recipe as this base allows it: with the full vocabulary where no compact one comes along."""
    if recipe.vocabulary == "full" or kept_rows(base.folder / "tokenizer.json") is not None:
        return recipe
    say(f"No compact vocabulary comes along for the tokenizer of {base.name}; it keeps its full one")
    return recipe.model_copy(update={"vocabulary": "full"})


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

    Raises ThousandError when there is none, when it is finished, when its data or judge has changed since, or when a
    change would make it another run.
    """
    run = read_run(name)
    if (release.folder() / name).exists():
        raise ThousandError(f"The run {name!r} is finished; its release is {name}.")
    check_data(run)
    check_judge(run)
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
                f"{path} has changed since the run {run.name!r} began, so it cannot go on; start a new run with: {run.anew}"
            )


def check_judge(run: Run) -> None:
    """Raises ThousandError, saying what to set, when another judge than at the run's beginning would grade its answers."""
    if named_in_settings() != run.judge:
        raise ThousandError(
            f"The judge of the run {run.name!r} was {_spelled(run.judge)} when it began, and checkpoints are compared by one "
            f"judge; {_set_back(run.judge)}, and go on with: {run.go_on}"
        )
