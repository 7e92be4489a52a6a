"""A retraining that nobody has to wait for: a process of its own, which outlives the page and the server that began it."""

import os
import shlex
import subprocess
import sys
import threading
import time

from assistant.errors import ThousandError
from assistant.settings import settings
from train.retrain.state import folder, read_state, standing, unfinished

NICE = 10
"""So that whoever chats on the same machine meanwhile is answered first."""
LOOK = 0.1
"""Seconds between two looks whether it has begun."""


def start(*options: str) -> None:
    """Begin `thousand retrain`, or go on with it, and return once it is at work.

    Raises ThousandError when one is under way, and with what it said when it came to nothing.
    """
    if standing().running:
        raise ThousandError("A retraining is under way already.")
    last = read_state()
    begins = last is None or not unfinished(last) or "--fresh" in options
    own = shlex.split(settings().retrain_options or "") if begins else []
    command = [sys.executable, "-m", "assistant", "retrain", "--yes", *own, *options]
    with (folder() / "said.txt").open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 (nothing of it comes from outside)
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
    os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
    threading.Thread(
        target=process.wait, daemon=True
    ).start()  # an ended child that nobody waits for stays in the table
    while process.poll() is None:
        state = read_state()
        if state is not None and state.pid == process.pid:
            return
        time.sleep(LOOK)
    if process.returncode != 0:
        raise ThousandError(last_words())


LAST = 4
"""Lines that are shown of what a process said before it came to nothing."""


def last_words() -> str:
    """What a process in the background said last."""
    said = (folder() / "said.txt").read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in said.split("\n") if line.strip()]
    return "\n".join(lines[-LAST:]) or "It ended without a word."
