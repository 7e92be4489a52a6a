"""Where a retraining stands, on the disk, so that whoever looks, and whatever happens to it, finds the truth.

THOUSAND_HOME/retrain holds `state.json`, which only the process that retrains writes; `lock`, which it holds while it lives;
`stop`, which asks it to save and stop; and `said.txt`, what it printed
when nobody was there to read it.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from assistant import release
from assistant.errors import ThousandError
from assistant.files import write_text
from assistant.settings import settings
from evaluation.sets import SetName
from train.retrain.news import Counts

GO_ON = "thousand retrain"
SETTLE = 2.0
"""Seconds that a beginning waits for the lock: somebody who only looks whether it is held has it for an instant."""
EACH = 0.5
"""Seconds between two writes of how far it is."""

Phase = Literal["training", "comparing", "done"]


class State(BaseModel):
    """A retraining, the one under way or the last one; saved as `state.json`."""

    model_config = ConfigDict(extra="forbid")

    run: str
    """The name of its run, and of the release that comes of it: the candidate."""
    against: str
    """The release that was current when it began."""
    counts: Counts
    began: datetime
    pid: int = 0
    """The process that works on it, or did."""
    prompts: dict[SetName, str] = {}
    """Sets of the user's own that the two are compared on, in place of those that come along."""
    phase: Phase = "training"
    ended: Literal["stopped", "failed"] | None = None
    """How it ended before its time; None while it is under way, when it is done, and when its process was killed."""
    said: str = ""
    """The last thing that it said: what it does now, or why it ended."""
    done: int = 0
    total: int = 0
    """Of the phase: optimizer steps, or answers."""
    seconds_left: float | None = None
    """To the end of the phase, as far as it can be told."""
    kept: bool = False
    """A person decided to stay with the current release."""


class Standing(NamedTuple):
    """What somebody sees who looks."""

    state: State | None
    """None when there was no retraining yet."""
    running: bool
    stopping: bool
    """It has been asked to stop."""

    @property
    def can_go_on(self) -> bool:
        """It was interrupted, in whatever way, and what it had done is still there."""
        return self.state is not None and not self.running and unfinished(self.state)

    @property
    def sentence(self) -> str:
        """For people."""
        if self.state is None:
            return "There was no retraining yet; begin one with: thousand retrain"
        state = self.state
        if self.running:
            far = f", {state.done} of {state.total}" if state.total else ""
            stopping = "; it has been asked to save and stop" if self.stopping else ""
            return f"{state.run} is {state.phase}{far}{stopping}. {state.said}".strip()
        if state.phase == "done":
            return f"{state.run} is made and compared with {state.against}."
        if state.ended is not None:
            return state.said
        return (
            f"{state.run} ended without a word while it was {state.phase}: it was killed, or the machine went off. "
            f"Go on with: {GO_ON}"
        )


def folder() -> Path:
    """Where all of it is."""
    return settings().home / "retrain"


def read_state() -> State | None:
    """The retraining under way, or the last one. Raises ThousandError for a damaged file."""
    file = folder() / "state.json"
    if not file.exists():
        return None
    try:
        return State.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ThousandError(f"{file} is damaged; remove it, and begin anew with: {GO_ON}") from None


def write_state(state: State) -> None:
    write_text(folder() / "state.json", state.model_dump_json(indent=2) + "\n")


def unfinished(state: State) -> bool:
    """Whether there is something to go on with, once no process works on it."""
    if state.phase == "done":
        return False
    run = settings().home / "runs" / state.run / "run.json"
    return run.exists() or (release.folder() / state.run / release.RECORD).exists()


def _lock() -> FileLock:
    folder().mkdir(parents=True, exist_ok=True)
    return FileLock(folder() / "lock")


def standing() -> Standing:
    """How the retraining stands now."""
    lock = _lock()
    try:
        with lock.acquire(timeout=0):
            running = False
    except Timeout:
        running = True
    return Standing(read_state(), running, running and _stop_file().exists())


@contextmanager
def alone() -> Iterator[None]:
    """While this process retrains, no other does. Raises ThousandError when one does already."""
    try:
        with _lock().acquire(timeout=SETTLE):
            _stop_file().unlink(missing_ok=True)
            yield
    except Timeout:
        raise ThousandError(f"A retraining is under way: {standing().sentence} See: thousand retrain status") from None


def _stop_file() -> Path:
    return folder() / "stop"


def ask_to_stop() -> State:
    """Ask the retraining under way to save and stop. Raises ThousandError when there is none."""
    found = standing()
    if not found.running or found.state is None:
        raise ThousandError("No retraining is under way.")
    _stop_file().touch()
    return found.state


class Teller:
    """Keeps `state.json` as the work goes on, and hands on the wish to stop."""

    def __init__(self, state: State) -> None:
        self.state = state.model_copy(update={"pid": os.getpid()})
        self._written = 0.0
        self._asked = False
        write_state(self.state)

    def set(self, **fields: object) -> None:
        """Change the state, on the disk at once."""
        self.state = self.state.model_copy(update=fields)
        write_state(self.state)
        self._written = time.monotonic()

    def far(self, done: int, total: int, seconds_left: float | None) -> None:
        """How far the phase is. Where it has been asked to stop this raises as Ctrl-C does, which training turns into a checkpoint."""
        fields = {"done": done, "total": total, "seconds_left": seconds_left}
        self.state = self.state.model_copy(update=fields)
        if time.monotonic() - self._written >= EACH or done == total:
            self.set()
        if not self._asked and _stop_file().exists():
            self._asked = True
            signal.raise_signal(signal.SIGINT)


def keep_current() -> None:
    """A person stays with the current release; the candidate is a release like others."""
    with alone():
        state = read_state()
        if state is None or state.phase != "done":
            raise ThousandError("There is no candidate to decide on.")
        write_state(state.model_copy(update={"kept": True}))
