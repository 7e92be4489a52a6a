"""Watching a run: measures each step, reports it, and turns a signal into a saved checkpoint."""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from train import processes
from train.curves import read_log


@dataclass(frozen=True)
class Step:
    """Where a run stands after an optimizer step."""

    step: int
    steps: int
    loss: float
    """Mean cross-entropy (nats) of the step's supervised tokens."""
    supervised: float
    """Share of the run's tokens that are supervised."""
    tokens_per_second: float
    seconds_left: float


class Watch(TrainerCallback):  # type: ignore[misc]
    """A Trainer callback for one run.

    `tokens_by_step` are the tokens of each planned optimizer step; each step's measurements are appended to `log` as a
    line of JSON. A checkpoint is saved after each step in `saved`, and examined once it is whole.
    """

    def __init__(
        self,
        log: Path,
        tokens_by_step: Sequence[int],
        supervised: float,
        report: Callable[[Step], None],
        examine: Callable[[int], None],
        *,
        saved: Sequence[int],
        until: int,
    ) -> None:
        self._log, self._tokens, self._supervised = log, tokens_by_step, supervised
        self._report, self._examine, self._saved = report, examine, saved
        self.until = until
        """The step after which the run ends or pauses, with a checkpoint."""
        self.interrupted = False
        """This process was asked to stop."""
        self.stopping = False
        """One of the processes was, and all of them stop after this step; what is saved is examined on going on."""
        self.failed_at: int | None = None
        self.last_loss = math.nan
        self.seconds = 0.0
        """Spent in steps, those before an interruption included."""
        self._began = self._seconds_before = 0.0
        self._first_step = 0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM asks for a checkpoint at the end of the step; the second one kills as usual."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.interrupted = True
        if processes.rank() == 0:
            # Not through the console: it may be in the middle of printing, and would print that again.
            os.write(2, b"\nStopping: this step is finished and saved first. Once more stops at once, and loses it.\n")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Trainer's hook."""
        self._first_step = state.global_step
        if processes.rank() == 0 and self._log.exists():
            earlier = [line for line in read_log(self._log) if line["step"] <= state.global_step]
            self._seconds_before = earlier[-1]["seconds"] if earlier else 0.0
            with self._log.open("a", encoding="utf-8") as file:
                file.write("\n")  # closes a line that a crash cut
        self._began = time.monotonic()
        if self._first_step:
            self.examined(self._first_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Trainer's hook."""
        self.stopping = processes.any_of(self.interrupted)
        if self.stopping or state.global_step == self.until:
            control.should_save = True
            control.should_training_stop = True
        elif state.global_step in self._saved:
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Trainer's hook, when a checkpoint is whole."""
        if not self.stopping:
            self.examined(state.global_step)

    def examined(self, step: int) -> None:
        """Have the checkpoint examined whose weights are loaded; the time it takes is not the training's."""
        began = time.monotonic()
        if processes.rank() == 0:
            self._examine(step)
        processes.wait()
        self._began += time.monotonic() - began

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> TrainerControl:
        """Trainer's hook; with logging at each step it is called once a step, before a checkpoint is saved."""
        if not logs or "loss" not in logs:
            return control
        step = state.global_step
        self.last_loss = logs["loss"]
        if not math.isfinite(self.last_loss) or not math.isfinite(logs["grad_norm"]):
            self.failed_at = step
            control.should_save = False
            control.should_training_stop = True
            return control
        if processes.rank() > 0:
            return control
        session = time.monotonic() - self._began
        self.seconds = self._seconds_before + session
        rate = sum(self._tokens[self._first_step : step]) / session
        line = {
            "step": step,
            "loss": round(self.last_loss, 5),
            "rate": logs["learning_rate"],
            "grad_norm": round(logs["grad_norm"], 4),
            "seconds": round(self.seconds, 1),
        }
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            if control.should_save:  # a checkpoint never outlives the lines that lead to it
                file.flush()
                os.fsync(file.fileno())
        left = sum(self._tokens[step:]) / rate
        self._report(Step(step, len(self._tokens), self.last_loss, self._supervised, rate, left))
        return control
