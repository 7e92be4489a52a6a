"""What an ablation is to train and what that costs, known before anything of it is begun."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant import release
from assistant.base_model import Say
from assistant.console import minutes
from assistant.dialogue import Dialogue, data_files, read_dialogues
from assistant.errors import BadData, ThousandError, validation_sentence
from assistant.files import sha256, write_text
from assistant.lineage import fingerprint
from assistant.release import Release
from assistant.settings import bundled
from assistant.template import Template
from evaluation.ablations import Kind, folder
from evaluation.sets import MAX_TOKENS, SetName, bundled_set
from train import batches, processes
from train.ablate.arms import Training, arms_folder
from train.ablate.variants import Choices, arms
from train.recipe import Recipe, changed, preset
from train.retrain.estimate import Speed, speed
from train.run import Material, for_base, material

STEPS: dict[Kind, int | None] = {"quality": 64, "diversity": 64, "quantity": 64, "chains": None}
"""Optimizer steps of every arm, None for as many epochs as the recipe says.

The paper gives each arm the same epochs, of sets so large that every arm is trained to its end. 62 examples have 8 steps in
the two epochs of `laptop`, after which nothing ends by itself: that would compare how much is trained, not how much there is
to learn from. With equal steps every arm is changed as often and by the same rates; the fewer its examples, the oftener it
sees them. 64 steps show 1,000 examples once. Of `chains` both arms have about the same size, and the question is about the
release itself, so the recipe is used as it is.
"""
REFERENCE: dict[Kind, str | None] = {"quality": "as-written", "diversity": "mixed", "quantity": None, "chains": None}
"""The arm that the others are compared with; None for the biggest of `quantity` and the smallest of `chains`."""

ASKED: dict[Kind, tuple[SetName, ...]] = {
    "quality": ("constraints",),
    "diversity": ("constraints",),
    "quantity": ("constraints",),
    "chains": ("conversations", "constraints"),
}
"""What every arm is asked beside the dev prompts."""


class Asked(BaseModel):
    """What a person asks for beside data and base; part of what an ablation is begun with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    sizes: tuple[int, ...] = ()
    groups: tuple[str, ...] = ("howto",)
    recipe: str = "laptop"
    changes: tuple[str, ...] = ()
    steps: int | None = None
    max_tokens: int = MAX_TOKENS
    engine: Literal["auto", "llama.cpp", "transformers"] = "auto"


class Begun(Material):
    """What an ablation was begun with; saved as `begun.json`. Seeds may come to it later."""

    asked: Asked
    prompts: dict[SetName, str]
    """Absolute paths of sets that are asked in place of those that come along, beside the dev prompts."""
    prompts_sha256: dict[SetName, str]
    """Of every set that is asked beside them."""

    def changed_since(self, then: "Begun") -> list[str]:
        """Names what is not as it was."""
        was, now = then.asked.model_dump(), self.asked.model_dump()
        found = [f"{name} (it was {was[name]})" for name in was if was[name] != now[name]]
        found += [
            f"the {name} {self.prompts.get(name, 'that come along')}"
            for name, digest in self.prompts_sha256.items()
            if digest != then.prompts_sha256.get(name)
        ]
        return [*found, *self.other_than(then)]


class Work(NamedTuple):
    """How much a training is."""

    steps: int
    tokens: int
    """That go through it, each epoch counted."""


@dataclass(frozen=True)
class Plan:
    """An ablation before it is done."""

    name: str
    begun: Begun
    recipe: Recipe
    """As asked for, before the steps of each arm are put in."""
    trainings: tuple[Training, ...]
    """Of every seed each arm; the arms of one seed behind one another."""
    template: Template

    @property
    def kind(self) -> Kind:
        return self.begun.asked.kind

    @property
    def place(self) -> Path:
        """Its folder."""
        return folder() / self.name

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(training.seed for training in self.trainings))

    @property
    def reference(self) -> str:
        """The name of the arm that the others are compared with."""
        named = REFERENCE[self.kind]
        if named is not None:
            return named
        by_size = sorted(self.trainings, key=lambda training: training.arm.size)
        return by_size[0 if self.kind == "chains" else -1].arm.name

    @property
    def steps(self) -> int | None:
        """Equal steps of every arm, None where they have equal epochs."""
        return equal_steps(self.begun.asked)

    @property
    def budget(self) -> str:
        """In words."""
        if self.steps is not None:
            return f"every arm {self.steps} steps of {self.recipe.dialogues_per_step} dialogues, however few it has"
        return f"every arm {self.recipe.epochs:g} epochs of its data"

    @cached_property
    def work(self) -> dict[str, Work]:
        """How much each training is, by its key."""
        lengths: dict[str, int] = {}

        def length(dialogue: Dialogue) -> int:
            known = fingerprint(dialogue)
            if known not in lengths:
                lengths[known] = min(self.recipe.max_tokens, len(self.template.render(dialogue.messages).ids))
            return lengths[known]

        found = {}
        for training in self.trainings:
            every = [length(dialogue) for dialogue in training.arm.dialogues]
            repeats = [training.recipe.repeats(dialogue) for dialogue in training.arm.dialogues]
            steps = batches.plan(every, training.recipe, repeats)
            found[training.key] = Work(len(steps), sum(every[number] for step in steps for number in step))
        return found

    @cached_property
    def reused(self) -> dict[str, Release]:
        """By key the release that is the same already."""
        found = {}
        for training in self.trainings:
            same = None if training.trained else training.same_release()
            if same is not None:
                found[training.key] = same
        return found

    @property
    def to_train(self) -> list[Training]:
        """What is not trained yet, each once."""
        left = {one.key: one for one in self.trainings if not one.trained and one.key not in self.reused}
        return list(left.values())

    def state(self, training: Training) -> str:
        """How a training stands, in a few words."""
        if training.trained:
            return "trained already"
        if training.key in self.reused:
            return f"is {self.reused[training.key].name}"
        return f"{self.work[training.key].tokens:,} tokens" + (", begun" if training.begun else "")

    @cached_property
    def speed(self) -> Speed | None:
        """How fast it will go: as the last arm like these here, else as the last training here, else as where a release was made."""
        like_it = [
            known
            for known in map(release.read, (file.parent for file in arms_folder().glob(f"*/{release.RECORD}")))
            if (known.base_checksum, known.method, known.vocabulary)
            == (self.begun.base_checksum, self.recipe.method, self.recipe.vocabulary)
        ]
        if like_it:
            newest = max(like_it, key=lambda known: known.created)
            return Speed(newest.training["tokens_per_second"], "as the last arm here", here=True)
        of_base = [known for known in release.whole_ones() if known.base_checksum == self.begun.base_checksum]
        return speed(of_base[-1], self.recipe) if of_base else None

    @property
    def cost(self) -> str:
        """What is left to train, in a sentence."""
        left = self.to_train
        if not left:
            return "Everything is trained already; what was not asked yet is asked."
        tokens = sum(self.work[training.key].tokens for training in left)
        told = f"{len(left)} of {len(self.trainings)} arms are to be trained, {tokens:,} tokens in all"
        if self.speed is None:
            return f"{told}; how fast that is here is seen at the first steps. Then each answers."
        seconds = minutes(tokens / self.speed.tokens_per_second)
        return (
            f"{told}: about {seconds} at {self.speed.tokens_per_second:.0f} tokens a second ({self.speed.source}), and some minutes "
            "for the answers of each."
        )


def equal_steps(asked: Asked) -> int | None:
    """Steps of every arm, None where each has the recipe's epochs."""
    own_epochs = any(change.partition("=")[0] == "epochs" for change in asked.changes)
    if asked.steps is not None and own_epochs:
        raise ThousandError(
            "--steps gives every arm equal steps and --set epochs=... equal epochs; leave one of them out."
        )
    return STEPS[asked.kind] if asked.steps is None and not own_epochs else asked.steps


def with_steps(recipe: Recipe, steps: int | None, dialogues: Sequence[Dialogue]) -> Recipe:
    """The recipe with so many optimizer steps on these dialogues, and a checkpoint in the middle, as one of two epochs has."""
    if steps is None:
        return recipe
    shown = sum(map(recipe.repeats, dialogues))
    # A half less: a rounded share of the data would be rounded up to one dialogue, and so one step, more.
    epochs = (steps * recipe.dialogues_per_step - 0.5) / shown
    numbers = recipe.model_dump() | {"epochs": epochs, "checkpoint_steps": math.ceil(steps / 2)}
    try:
        return Recipe.model_validate(numbers)
    except ValidationError as error:
        raise ThousandError(
            f"{len(dialogues)} dialogues cannot be trained for {steps} steps ({validation_sentence(error)}); lower --steps."
        ) from None


def make_plan(
    name: str | None,
    asked: Asked,
    *,
    seeds: int,
    base: str | None,
    data: Sequence[Path],
    dev: Path | None,
    prompts: Mapping[SetName, Path],
    say: Say,
) -> Plan:
    """Everything that an ablation will train; nothing is written yet but for an unpacked base.

    Raises ThousandError for choices that the data does not have, for arms that are the same, for whatever has changed since the
    ablation of that name began, and what `train.run.material` raises.
    """
    if processes.count() > 1:
        raise ThousandError("An ablation runs in one process; start it without accelerate or torchrun.")
    name = asked.kind if name is None else name
    if not release.NAME.fullmatch(name) or name in ("arms", "data"):
        raise ThousandError(f"{name!r} is no name for an ablation: use small letters, digits, dots and hyphens.")
    steps = equal_steps(asked)
    files = data_files(data or [bundled("dialogues")])
    found, made_from = material(base, files, dev, say)
    recipe = for_base(changed(preset(asked.recipe), asked.changes), found, say)
    sets = {of: prompts.get(of, bundled_set(of)) for of in ASKED[asked.kind]}
    missing = [
        f"{file}: there is no such file; give a .jsonl file of {of}" for of, file in sets.items() if not file.is_file()
    ]
    if missing:
        raise BadData(missing)
    begun = Begun(
        **made_from.model_dump(),
        asked=asked,
        prompts={of: str(file.absolute()) for of, file in prompts.items()},
        prompts_sha256={of: sha256(file) for of, file in sets.items()},
    )
    _check_unchanged(name, begun)
    dialogues = read_dialogues(files)
    choices = Choices(asked.sizes, asked.groups)
    trainings = tuple(
        Training(arm, with_steps(recipe.model_copy(update={"seed": seed}), steps, arm.dialogues), made_from)
        for seed in range(recipe.seed, recipe.seed + seeds)
        for arm in arms(asked.kind, dialogues, choices, seed)
    )
    return Plan(name, begun, recipe, trainings, Template.load(found.folder, recipe.stop))


def _check_unchanged(name: str, now: Begun) -> None:
    file = folder() / name / "begun.json"
    if not file.exists():
        return
    try:
        then = Begun.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ThousandError(
            f"{file} cannot be gone on with: {validation_sentence(error)}. Give the ablation another --name."
        ) from None
    differs = now.changed_since(then)
    if differs:
        raise ThousandError(
            f"Changed since the ablation {name!r} began: {'; '.join(differs)}. Arms are compared on equal terms: put it back, or give "
            "the new ablation another --name; arms that are the same are not trained again."
        )


def begin(plan: Plan) -> None:
    """Write down what it is begun with."""
    file = plan.place / "begun.json"
    if not file.exists():
        write_text(file, plan.begun.model_dump_json(indent=2) + "\n")
