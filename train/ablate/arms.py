"""One training of an arm: found by its content, so that nothing is trained twice, whichever ablation asks for it."""

import gc
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from assistant import release
from assistant.base_model import Say
from assistant.jsonl import write_records
from assistant.lineage import fingerprint, read_lineage
from assistant.release import Release
from evaluation.ablations import folder
from train.ablate.variants import Arm
from train.make_release import make_release
from train.recipe import Recipe
from train.run import Material, Run, begin_run, read_run, runs_folder
from train.session import train_in_less
from train.watch import Step


def arms_folder() -> Path:
    """Where the trained arms are, each a folder as a release has it."""
    return folder() / "arms"


def _settled(recipe: Recipe) -> set[str]:
    """Numbers that are found when a run begins, or that change nothing that is learnt."""
    return {"preset", "tokens_per_micro_batch", *(["precision"] if recipe.precision == "auto" else [])}


@dataclass(frozen=True)
class Training:
    """An arm that is to be trained with a recipe, whose seed is the training's."""

    arm: Arm
    recipe: Recipe
    material: Material
    """Base, dev prompts and judge; the files are those of the whole data."""

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def label(self) -> str:
        return f"{self.arm.name}, seed {self.seed}"

    @cached_property
    def key(self) -> str:
        """A hash of all that decides what is learnt, and by what the checkpoint is chosen."""
        dialogues = [[fingerprint(one), self.recipe.repeats(one)] for one in self.arm.dialogues]
        judge = None if self.material.judge is None else self.material.judge.model_dump()
        recipe = self.recipe.model_dump(exclude=_settled(self.recipe))
        whole = [dialogues, recipe, self.material.base_checksum, self.material.dev_sha256, judge]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Of its run, and of its folder in `arms`."""
        return f"ablation-{self.key}"

    @property
    def place(self) -> Path:
        return arms_folder() / self.name

    @property
    def trained(self) -> bool:
        return (self.place / release.RECORD).exists()

    @property
    def begun(self) -> bool:
        """There is an unfinished run to go on with."""
        return not self.trained and (runs_folder() / self.name / "run.json").exists()

    def same_release(self) -> Release | None:
        """A release here that was trained on the same dialogues, in the same order and by the same recipe, if there is one."""
        if self.material.dev is not None or self.material.judge is not None:
            return None  # a release's record does not say by which others its checkpoint was chosen
        asked = self.recipe.model_dump(exclude=_settled(self.recipe))
        said = [fingerprint(dialogue) for dialogue in self.arm.dialogues]
        for known in release.whole_ones():
            if known.base_checksum != self.material.base_checksum or known.recipe.get("seed") != self.seed:
                continue
            try:
                recipe = Recipe.model_validate(known.recipe).model_dump(exclude=_settled(self.recipe))
            except ValidationError:
                continue  # of a version with other numbers
            if recipe == asked and [one.fingerprint for one in read_lineage(known.name) or ()] == said:
                return known
        return None


def train(training: Training, report: Callable[[Step], None], say: Say) -> None:
    """Train what is not trained yet, from where it was stopped.

    Raises what `train.session.train_and_choose` raises; whatever was done is gone on with by the next call.
    """
    if not training.trained:
        run = _run(training, say)
        chosen = train_in_less(run, training.label, report, say)
        make_release(chosen, arms_folder())
        del chosen
        gc.collect()  # the model is part of cycles, and would wait beside the one that answers
    shutil.rmtree(runs_folder() / training.name, ignore_errors=True)


def _run(training: Training, say: Say) -> Run:
    """Its run, begun or gone on with. What it is trained on stands in a file named by the content."""
    file = folder() / "data" / f"{training.key}.jsonl"
    write_records(file, training.arm.dialogues)
    if training.begun:
        return read_run(training.name)
    dev = None if training.material.dev is None else Path(training.material.dev)
    return begin_run(training.name, training.material.base, training.recipe, [file], dev, say, ablation=True)
