"""Keeping a server on the release that is current: when it starts, and while it runs."""

import asyncio
import logging

from assistant import release
from assistant.base_model import Say
from serve.chat import Chat
from serve.served import CannotLoad, Opener, Served, why

log = logging.getLogger("thousand")

LOOK_EVERY = 0.5
"""Seconds between two looks at the registry, each of which is one call of `stat`."""

Stamp = tuple[int, int] | None
"""See `release.registry_stamp`."""


def open_current(opener: Opener, say: Say, warn: Say) -> tuple[Chat, str | None]:
    """The chat of the current release or, when that cannot be loaded, of the last one before it that can, and what failed.

    When none can, raises what keeps the current one from being loaded.
    """
    failures: dict[str, Exception] = {}
    for name in dict.fromkeys([release.current(say), *reversed(release.history())]):
        try:
            chat = opener(name)
        except Exception as error:  # whatever it is, an earlier release may be free of it
            failures[name] = error
            continue
        if not failures:
            return chat, None
        reasons = "; ".join(f"{failed} ({why(error)})" for failed, error in failures.items())
        warn(
            f"Serving {name}, the last release that can be loaded, in place of {reasons}. Mend the current one and promote it "
            "again, or go back: thousand releases rollback"
        )
        return chat, _not_served(next(iter(failures)), name)
    raise next(iter(failures.values()))


def _not_served(current: str, served: str) -> str:
    return f"{current} is current and could not be loaded, so {served} answers; the server's log says why."


async def follow(served: Served, seen: Stamp) -> None:
    """Swap to whatever release becomes current after the registry was `seen`, for as long as the server runs.

    One that cannot be loaded is tried again when the registry changes again; `thousand releases promote` of the same
    release changes it too.
    """
    while True:
        await asyncio.sleep(LOOK_EVERY)
        stamp = release.registry_stamp()
        if stamp != seen:
            seen = stamp
            await _catch_up(served)


async def _catch_up(served: Served) -> None:
    name = "what the registry names"
    try:
        name = release.current_or_none() or served.current.name
        before = served.current.name
        if not served.can_load:
            if name != before:
                log.warning(
                    "%s is current now, but the engine behind this server has %s and goes on with it; to change that, start "
                    "both again",
                    name,
                    before,
                )
            return
        record = await asyncio.to_thread(lambda: release.read(release.path(name)))
        if record != served.current.record:
            log.info("%s is current now; it is loaded while %s answers", name, before)
            await served.swap(record)
            log.info("%s answers in place of %s", name, before)
        served.failed = None
    except Exception as error:  # whatever it is, the release that is loaded goes on
        if not isinstance(error, CannotLoad):  # of that the log has been told
            log.warning("%s cannot be served, %s goes on: %s", name, served.current.name, why(error))
        served.failed = _not_served(name, served.current.name)
