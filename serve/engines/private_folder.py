"""Where an engine of this process has its socket."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "thousand-"
LOCK = "lock"


class PrivateFolder:
    """A new folder that only this user can enter, in the system's temporary one, whose path is short enough for a socket.

    A process that is killed leaves its folders behind; the next folder that is made removes them. A lock in it, which
    ends with the process, says whether a folder is still in use.
    """

    def __init__(self) -> None:
        _remove_left_over()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        unlocked = self.path / f"{LOCK}.new"
        self._lock = os.open(unlocked, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unlocked.rename(self.path / LOCK)  # only now, so that nobody finds it before it is held

    def remove(self) -> None:
        """Remove it with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_left_over() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # another's folder, or no engine's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(lock)
