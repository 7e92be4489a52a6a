"""A piece of work that is killed before each of its writes in turn, in a process of its own.

    with THOUSAND_HOME set: python -m tests.killed accept|delete|submit

does the work once in a child that nothing happens to, and then, from the same beginning each time, in children that SIGKILL
themselves before their first write, their second, and so on. After each it prints what `after` finds, as a line of JSON.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, select

from assistant.settings import settings
from serve.feedback import Submission, submit
from serve.kept import kept_file
from serve.review import accept, delete_conversation, queue
from serve.store import Candidate, Conversation, Opinion, Store
from tests.feedback import CONVERSATION, submission

WRITES = {"os.rename", "os.remove", "os.truncate", "os.chmod", "os.mkdir", "os.link"}


def arm(number: int) -> None:
    """Kill this process before the write of that number: of a file's opening, its move, an SQL statement, a commit."""
    left = number

    def step() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if name in WRITES or (
            name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            step()

    sync = os.fsync
    os.fsync = lambda descriptor: (step(), sync(descriptor))[1]  # type: ignore[func-returns-value]
    sys.addaudithook(audit)
    event.listen(Engine, "before_cursor_execute", lambda *_: step())
    event.listen(Engine, "commit", lambda _: step())


def send(**fields: Any) -> None:
    submit(Store(), Submission.model_validate(submission(**fields)), by=None)


def first() -> None:
    """Two dialogues wait, and one was kept before."""
    kept_file().write_text('{"id": "mine", "messages": []}\n')  # the user's own line is nobody else's business
    send(keep=True, consent=True)
    send(conversation="e" * 32, wanted="Lamps.", consent=True)


def identifiers() -> list[str]:
    return [item.id for item in queue(Store())]


def do_accept() -> None:
    accept(Store(), identifiers()[0], reviewer="me")


def do_delete() -> None:
    delete_conversation(Store(), CONVERSATION, by=None)


def do_submit() -> None:
    send(conversation="d" * 32, keep=True, consent=True)


def lines() -> list[str]:
    """The ids in the kept file, which must be whole whenever it is read."""
    return [json.loads(line)["id"] for line in kept_file().read_text().splitlines()]


def stored() -> dict[str, Any]:
    with Store().session() as session:
        return {
            "conversations": sorted(session.scalars(select(Conversation.id)).all()),
            "opinions": len(session.scalars(select(Opinion)).all()),
            "states": sorted(session.scalars(select(Candidate.state)).all()),
        }


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def main() -> None:
    work = {"accept": do_accept, "delete": do_delete, "submit": do_submit}[sys.argv[1]]
    home, before = settings().home, Path(f"{settings().home}-before")
    home.mkdir()
    assert child(first) == 0
    if sys.argv[1] == "delete":
        assert child(do_accept) == 0
    home.rename(before)
    status, number = 1, 0
    while status:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(before, home)

        def killed(number: int = number) -> None:
            arm(number)
            work()

        status = child(killed)
        found: dict[str, Any] = {"killed": os.WIFSIGNALED(status), "lines": lines()}

        def after(found: dict[str, Any] = found) -> None:
            found["waiting"] = len(identifiers())  # whoever looks next finishes what was decided
            found["settled"] = lines()
            found.update(stored())
            print(json.dumps(found), flush=True)

        assert child(after) == 0
        assert os.WIFSIGNALED(status) or status == 0
        number += 1


if __name__ == "__main__":
    main()
