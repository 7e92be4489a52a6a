"""An ablation from its plan to its record: each arm is trained, asked, measured, and on the disk before the next one begins."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

import assistant
from assistant import base_model, release
from assistant.base_model import Say
from assistant.errors import ThousandError
from assistant.files import write_text
from assistant.settings import settings
from evaluation import constraints, conversations, dev
from evaluation.ablation_page import write_report
from evaluation.ablations import Ablation, ArmResult, TrainedArm, measured
from evaluation.asking import ask
from evaluation.conversations import first_failures
from evaluation.sets import PromptSet, unanswered
from evaluation.systems import open_placed_system
from train.ablate.arms import Training, train
from train.ablate.plan import ASKED, Plan, begin
from train.faults import Diverged
from train.fit import Interrupted
from train.watch import Step

Report = Callable[[int, int, str, float | None], None]
"""Told how much of how much is done, what stands beside it, and the seconds left."""
GO_ON = "Go on with the same command."


class Failed(BaseModel):
    """A training that diverged, which is a result too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failed: str


_DONE: TypeAdapter[TrainedArm | Failed] = TypeAdapter(TrainedArm | Failed)


class Done:
    """What is done of an ablation, a file for each training, by its key."""

    def __init__(self, plan: Plan, sets: Sequence[PromptSet]) -> None:
        self._folder = plan.place / "measured"
        self._sets = {asked.name for asked in sets}

    def read(self, training: Training) -> TrainedArm | Failed | None:
        """None too for an arm that was not asked all of the sets. Raises ThousandError for a damaged file."""
        file = self._folder / f"{training.key}.json"
        if not file.exists():
            return None
        try:
            known = _DONE.validate_json(file.read_bytes())
        except ValidationError:
            raise ThousandError(f"{file} is damaged; remove it, and its answers are measured anew.") from None
        return None if isinstance(known, TrainedArm) and known.values.keys() != self._sets else known

    def whole(self, training: Training) -> bool:
        """It is done, and has an answer to every prompt or failed."""
        known = self.read(training)
        return known is not None and not (isinstance(known, TrainedArm) and known.unanswered)

    def write(self, training: Training, done: TrainedArm | Failed) -> None:
        write_text(self._folder / f"{training.key}.json", done.model_dump_json() + "\n")


@contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    plan.place.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(plan.place / "lock", timeout=0):
            yield
    except Timeout:
        raise ThousandError(
            f"Another process is working on the ablation {plan.name!r}; wait for it, or give this one another --name."
        ) from None


def prompt_sets(plan: Plan, say: Say) -> list[PromptSet]:
    """What every arm is asked. Raises BadData for prompts that cannot be read."""
    begun = plan.begun
    makers = {"conversations": conversations.prompt_set, "constraints": constraints.prompt_set}
    given = {name: Path(file) for name, file in begun.prompts.items()}
    return [
        dev.prompt_set(None if begun.dev is None else Path(begun.dev), say),
        *[makers[name](given.get(name)) for name in ASKED[plan.kind]],
    ]


class Progress:
    """How far an ablation is, in optimizer steps and answers, and how long the rest takes."""

    def __init__(self, plan: Plan, to_ask: int, sets: Sequence[PromptSet], report: Report) -> None:
        self._report, self._work = report, plan.work
        self._left = list(plan.to_train)
        self._turns = sum(asked.turns for asked in sets)
        self._speed = plan.speed.tokens_per_second if plan.speed else None
        self._seconds_of_asking: float | None = None
        self._to_ask = to_ask
        self._done = 0
        self._total = sum(self._work[training.key].steps for training in plan.to_train) + self._turns * to_ask

    def training(self, training: Training) -> Callable[[Step], None]:
        """Told of its steps."""
        self._left = [one for one in self._left if one.key != training.key]
        before = self._done

        def step(now: Step) -> None:
            self._speed, self._done = now.tokens_per_second, before + now.step
            self._tell(f"{training.label}: step {now.step} of {now.steps}, loss {now.loss:.3f}", now.seconds_left)

        return step

    def asking(self, training: Training) -> Callable[[int], None]:
        """Told of its answers."""
        answered, began = 0, time.monotonic()

        def more(count: int) -> None:
            nonlocal answered
            answered += count
            self._done += count
            spent = time.monotonic() - began
            self._seconds_of_asking = spent / max(1, answered) * self._turns
            if answered == self._turns:
                self._to_ask, spent = self._to_ask - 1, 0.0
            self._tell(f"{training.label}: answer {answered} of {self._turns}", -spent)

        return more

    def _tell(self, beside: str, of_this: float) -> None:
        left = None
        if self._speed is not None:
            tokens = sum(self._work[training.key].tokens for training in self._left)
            left = of_this + tokens / self._speed + (self._seconds_of_asking or 0.0) * self._to_ask
        self._report(self._done, self._total, beside, left)


def _measured(training: Training, plan: Plan, sets: Sequence[PromptSet], progress: Progress, say: Say) -> TrainedArm:
    """What the trained arm says, and what that is worth. Answers are kept as they come."""
    same = plan.reused.get(training.key)
    place = training.place if same is None else release.path(same.name)
    asked = plan.begun.asked
    began = time.monotonic()
    system = open_placed_system(
        place, engine=asked.engine, say=say, settings={"max_tokens": asked.max_tokens, "seed": 0}
    )
    answered = ask(system, sets, progress.asking(training))
    spent = time.monotonic() - began
    record = release.read(place)
    if same is None:
        for file in (settings().home / "merged").glob(f"{training.name}-*"):
            file.unlink()  # as big as the base, and made again within seconds
    failures = [
        first_failures(one.scripts, replies)
        for one, replies in zip(sets, answered.replies, strict=True)
        if one.name == "conversations"
    ]
    return TrainedArm(
        seed=training.seed,
        key=training.key,
        release=record.name,
        reused=same is not None,
        made=release.now(),
        dialogues=len(training.arm.dialogues),
        tokens=plan.work[training.key].tokens,
        epochs=round(training.recipe.epochs, 4),
        steps=int(record.training["steps"]),
        chosen_step=record.chosen_step,
        seconds=record.training["seconds"],
        asking_seconds=round(spent, 1),
        first_failures=failures[0] if failures else {},
        unanswered={
            f"{one.name}/{prompt}": problem
            for one, replies in zip(sets, answered.replies, strict=True)
            for prompt, problem in unanswered(one.scripts, replies).items()
        },
        values={
            one.name: {name: list(column) for name, column in one.columns(replies).items()}
            for one, replies in zip(sets, answered.replies, strict=True)
        },
    )


def _one(
    training: Training, plan: Plan, sets: Sequence[PromptSet], progress: Progress, say: Say
) -> TrainedArm | Failed:
    if training.key in plan.reused:
        say(f"{training.label}: the release {plan.reused[training.key].name} was trained on just that, so it is taken")
    else:
        report = progress.training(training)
        if not training.trained:
            say(f"{training.label}: {training.arm.what}")
        try:
            train(training, report, say)
        except Diverged as error:
            reason = str(error).partition(";")[0]
            say(f"{training.label} failed: {reason}")
            return Failed(failed=reason)
    return _measured(training, plan, sets, progress, say)


def work(plan: Plan, report: Report, say: Say) -> Ablation:
    """Train and ask what is not done yet; after each arm the record and its pages are written anew.

    Raises ThousandError for whatever stops it: what is done is kept, and the same command goes on.
    """
    try:
        with _alone(plan):
            sets = prompt_sets(plan, say)
            begin(plan)
            done = Done(plan, sets)
            to_do = [training for training in plan.trainings if not done.whole(training)]
            progress = Progress(plan, len(to_do), sets, report)
            for training in to_do:
                done.write(training, _one(training, plan, sets, progress, say))
                write_report(_record(plan, done, sets), plan.place)
            record = _record(plan, done, sets)
            write_report(record, plan.place)
            return record
    except Interrupted:
        raise Interrupted(f"Stopped; what is trained is saved. {GO_ON}") from None
    except KeyboardInterrupt:
        raise ThousandError(f"Stopped; what is done is kept. {GO_ON}") from None
    except OSError as error:
        raise ThousandError(f"{base_model.disk_error(error, plan.place)} What is done is kept. {GO_ON}") from error


def _record(plan: Plan, done: Done, sets: Sequence[PromptSet]) -> Ablation:
    """All that is done, as one record."""
    arms: dict[str, list[tuple[Training, TrainedArm | Failed]]] = {}
    for training in plan.trainings:
        known = done.read(training)
        if known is not None:
            arms.setdefault(training.arm.name, []).append((training, known))
    results = [
        ArmResult(
            name=name,
            what=of[0][0].arm.what,
            size=of[0][0].arm.size,
            failed={training.seed: one.failed for training, one in of if isinstance(one, Failed)},
            trained=tuple(one for _, one in of if isinstance(one, TrainedArm)),
            measures=(),
        )
        for name, of in arms.items()
    ]
    return Ablation(
        kind=plan.kind,
        name=plan.name,
        made=release.now(),
        version=assistant.__version__,
        base=plan.begun.base,
        base_checksum=plan.begun.base_checksum,
        budget=plan.budget,
        seeds=plan.seeds,
        reference=plan.reference,
        planned=len(plan.trainings),
        left_out=tuple(duplicate for asked in sets for duplicate in asked.left_out),
        arms=measured(results, plan.reference),
    )
