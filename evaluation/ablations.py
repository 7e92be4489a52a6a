"""What ablations found: the records that `thousand evaluate ablate` leaves, and how to read them.

`read_ablations()` gives every one of them, for a report. Training them is above this package, in `train.ablate`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.errors import ThousandError, read_each
from assistant.settings import settings
from evaluation.intervals import Column, Interval, paired, present

Kind = Literal["quality", "diversity", "quantity", "chains"]
RECORD = "ablation.json"


def folder() -> Path:
    """Where ablations live: `arms` has what was trained, found by content; every other folder is an ablation by its name."""
    return settings().home / "ablations"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainedArm(_Model):
    """One training of an arm, with one seed."""

    seed: int
    key: str
    """A hash of all that decides it: data, recipe, seed, base, and by what its checkpoint is chosen."""
    release: str
    """The name of its folder in `arms`, or of the release that was the same already."""
    reused: bool
    """That release was there before."""
    made: datetime
    dialogues: int
    tokens: int
    """That went through training."""
    epochs: float
    steps: int
    chosen_step: int | None
    seconds: float
    """Of training steps."""
    asking_seconds: float
    """Of answering."""
    first_failures: dict[int, int] = {}
    """Of conversations: a turn's number to how many fail there first."""
    unanswered: dict[str, str] = {}
    """Prompts that have no answer, `set/prompt`, and why; they have no values."""
    values: dict[str, dict[str, list[float | None]]]
    """Set and measure to the value of each prompt."""


class Measure(_Model):
    """One measure of an arm over a set's prompts."""

    set: str
    name: str
    prompts: int
    value: Interval
    """Over the prompts, each with its mean over the seeds."""
    seeds: tuple[float, ...]
    """The mean of each seed."""
    difference: Interval | None
    """This arm less the reference, prompt by prompt; None for the reference itself."""


class ArmResult(_Model):
    """An arm over all its seeds."""

    name: str
    what: str
    size: int
    failed: dict[int, str] = {}
    """The seeds whose training diverged, and how."""
    trained: tuple[TrainedArm, ...]
    measures: tuple[Measure, ...]
    """Empty when every seed failed."""

    def measure(self, of: str, name: str) -> Measure | None:
        """A measure of a set; None where no prompt has it."""
        return next((one for one in self.measures if (one.set, one.name) == (of, name)), None)


class Ablation(_Model):
    """The record of an ablation; `ablation.json` in its folder."""

    kind: Kind
    name: str
    made: datetime
    version: str
    base: str
    base_checksum: str
    budget: str
    """How much every arm was trained, in words."""
    seeds: tuple[int, ...]
    reference: str
    """The arm that the others are compared with."""
    planned: int
    """Trainings in all; fewer are here when it was stopped."""
    left_out: tuple[str, ...] = ()
    """Prompts that stand twice in a set and were asked once, each with its place and the place of the first."""
    arms: tuple[ArmResult, ...]

    @property
    def whole(self) -> bool:
        return sum(len(arm.trained) + len(arm.failed) for arm in self.arms) == self.planned

    def arm(self, name: str) -> ArmResult | None:
        return next((one for one in self.arms if one.name == name), None)


def read_ablation(name: str) -> Ablation:
    """The record of an ablation by its name. Raises ThousandError when there is none, or it is damaged."""
    file = folder() / name / RECORD
    if not file.exists():
        raise ThousandError(f"There is no ablation {name!r}; make one with: thousand evaluate ablate --help")
    try:
        return Ablation.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ThousandError(f"{file} is damaged; remove it, and the same command writes it again.") from None


def read_ablations(damaged: Callable[[ThousandError], None] | None = None) -> list[Ablation]:
    """Every ablation here, by name, unfinished ones too (`whole` tells). A damaged record is told to `damaged` and left out; where that
    is not given it is raised as ThousandError."""
    files = sorted(folder().glob(f"*/{RECORD}"))
    return read_each(files, lambda file: read_ablation(file.parent.name), damaged)


def over_seeds(trained: Sequence[TrainedArm], of: str, name: str) -> list[float | None]:
    """The value of each prompt, the mean over those seeds that have one."""
    columns: list[Column] = [one.values[of][name] for one in trained]
    means = [present(values) for values in zip(*columns, strict=True)]
    return [fmean(values) if values else None for values in means]


def measured(arms: Sequence[ArmResult], reference: str) -> tuple[ArmResult, ...]:
    """The arms with their measures, and how far each is from the reference over the seeds that both have."""
    of_reference = next((arm for arm in arms if arm.name == reference and arm.trained), None)
    return tuple(arm.model_copy(update={"measures": tuple(_measures(arm, of_reference))}) for arm in arms)


def _measures(arm: ArmResult, reference: ArmResult | None) -> list[Measure]:
    found = []
    for of, columns in arm.trained[0].values.items() if arm.trained else ():
        for name in columns:
            values = present(over_seeds(arm.trained, of, name))
            if values:
                means = (present(one.values[of][name]) for one in arm.trained)
                found.append(
                    Measure(
                        set=of,
                        name=name,
                        prompts=len(values),
                        value=Interval.of_measure(name, values),
                        seeds=tuple(round(fmean(mean), 4) for mean in means if mean),
                        difference=_difference(arm, reference, of, name),
                    )
                )
    return found


def _difference(arm: ArmResult, reference: ArmResult | None, of: str, name: str) -> Interval | None:
    if reference is None or arm.name == reference.name:
        return None
    seeds = {one.seed for one in arm.trained} & {one.seed for one in reference.trained}
    first, second = ([one for one in side.trained if one.seed in seeds] for side in (arm, reference))
    return paired(over_seeds(first, of, name), over_seeds(second, of, name)) if seeds else None
