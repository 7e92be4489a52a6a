"""Which releases a server answers with, and by which names.

One is current. Others are in memory because a request named them, or because they have answers to end after another
became current. Each is a whole model, so there is a bound on them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches

from assistant import release
from assistant.errors import ThousandError
from assistant.release import Release
from serve.chat import Busy, Chat

log = logging.getLogger("thousand")

CURRENT = "thousand"
"""The model name that means "whatever release is current"."""

MOST_BESIDE = 2
"""Releases in memory beside the current one: room for the old one to end its answers while another is compared with the new."""

MOST_WAITING = 64
"""Requests that wait for releases to be loaded; as many as may wait for the answers of one (`Chat`)."""

LOOK = 0.1
"""Seconds between two looks whether a release has ended its answers."""

Opener = Callable[[str], Chat]
"""From the name of an installed release to its chat. It takes its time, and raises whatever keeps it from being had."""


class UnknownModel(ThousandError):
    """A request names a model that is not here."""


class CannotLoad(ThousandError):
    """A release that is here cannot be loaded; the log says why, which may be more than a client should know."""


def why(error: Exception) -> str:
    """What keeps a release from being loaded, in one line."""
    text = str(error) if isinstance(error, ThousandError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


@dataclass(eq=False)
class _Held:
    """A release in memory, or on its way there."""

    name: str
    chat: Chat | None = None
    loading: asyncio.Task[Chat] | None = None
    users: int = 0
    """Requests that wait for it, or have it and begin their answer."""
    leaving: bool = False
    """It was current; it goes once its answers have ended, unless a request names it before."""

    @property
    def idle(self) -> bool:
        return self.chat is not None and not self.users and not self.chat.answering

    async def loaded(self) -> Chat:
        """Its chat, once it is there. Raises CannotLoad."""
        if self.chat is not None:
            return self.chat
        assert self.loading is not None
        return await asyncio.shield(self.loading)  # others wait for it too

    async def close(self) -> None:
        if self.chat is not None:
            await self.chat.close()


class Served:
    """The chats of a server: every request finds its own here, and so does the page."""

    def __init__(self, current: Chat, opener: Opener | None = None, *, failed: str | None = None) -> None:
        """Without an `opener`, as when the engine is elsewhere, there is only `current`."""
        self._current = _Held(current.name, current)
        self._beside: list[_Held] = []  # the last used is the last
        self._opener = opener
        self._one_at_a_time = asyncio.Lock()
        self._swap_waits = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed = failed
        """What keeps the server from answering with the release that the registry names, if anything does."""

    @property
    def current(self) -> Chat:
        """The chat of the release that is current."""
        assert self._current.chat is not None
        return self._current.chat

    @property
    def can_load(self) -> bool:
        """Whether it can answer with other releases than the one it began with."""
        return self._opener is not None

    def models(self) -> dict[str, int]:
        """What a request may give as `model`, and when that was made, in seconds since 1970. Reads the registry's folder."""
        own = self.current.record
        created = {name: int(own.created.timestamp()) if own else 0 for name in (CURRENT, self.current.name)}
        if self.can_load:
            created |= {found.name: int(found.created.timestamp()) for found in release.whole_ones()}
        return created

    def unknown(self, name: str) -> UnknownModel:
        """That there is no such model, with the nearest that there is."""
        shown = name if len(name) <= 64 else f"{name[:64]}..."
        if not self.can_load:
            return UnknownModel(
                f"There is no model {shown!r} here; the engine behind this server has {self.current.name} only."
            )
        known = list(dict.fromkeys((CURRENT, self.current.name, *release.installed())))
        near = get_close_matches(shown, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:-1])} and {known[-1]}."
        return UnknownModel(f"There is no model {shown!r}; {hint}")

    @asynccontextmanager
    async def chat(self, name: str) -> AsyncIterator[Chat]:
        """The chat of the release that a request names, loaded first if it is not in memory. It is kept while the block
        begins an answer, and then until the answer has ended.

        Raises UnknownModel; CannotLoad; Busy when too many requests wait, or no other release can make room for it.
        """
        held = self._current if name in (CURRENT, self._current.name) else self._named(name)
        held.users += 1
        try:
            yield await held.loaded()
        finally:
            held.users -= 1

    def _named(self, name: str) -> _Held:
        """A release beside the current one, for a request."""
        held = next((held for held in reversed(self._beside) if held.name == name), None)
        if held is None and not (self.can_load and name in release.installed()):
            raise self.unknown(name)
        if self._swap_waits:
            raise Busy(
                "Another release is about to become current and waits for answers to end; try again in a moment."
            )
        waiting = sum(other.users for other in self._beside if other.chat is None)
        if waiting >= MOST_WAITING and (held is None or held.chat is None):
            raise Busy(f"{waiting} requests wait for a release to be loaded; try again in a moment.")
        if held is None:
            held = self._load(name)
        self._beside.remove(held)
        self._beside.append(held)
        held.leaving = False
        return held

    def _load(self, name: str) -> _Held:
        """Begin to load a release, in the place of the idle one that was used least lately if there is no other place.

        Raises Busy when none is idle.
        """
        away = None
        if len(self._beside) >= MOST_BESIDE:
            away = next((held for held in self._beside if held.idle), None)
            if away is None:
                raise Busy(f"{len(self._beside)} other releases are answering, as many as may; try again in a moment.")
            self._beside.remove(away)
            away.leaving = False
        held = _Held(name)
        held.loading = asyncio.create_task(self._open(held, away))
        held.loading.add_done_callback(lambda task: task.exception())  # which was told, even if nobody waits any more
        self._beside.append(held)
        return held

    async def _open(self, held: _Held, away: _Held | None) -> Chat:
        assert self._opener is not None
        try:
            if away is not None:
                await away.close()
            async with self._one_at_a_time:
                held.chat = await asyncio.to_thread(self._opener, held.name)
        except Exception as error:  # whatever it is, the releases that are loaded go on
            self._beside.remove(held)
            log.warning("the release %s cannot be loaded, %s goes on: %s", held.name, self.current.name, why(error))
            raise CannotLoad(f"The release {held.name} cannot be loaded; the server's log says why.") from error
        held.loading = None
        return held.chat

    async def swap(self, record: Release) -> None:
        """Make another release the current one, once it is loaded. Answers under way end on the old one, which goes then.

        Waits until there is room for it. Raises CannotLoad; then all is as before.
        """
        held = await self._room_for(record)
        held.users += 1
        try:
            await held.loaded()
        finally:
            held.users -= 1
        self._beside.remove(held)
        held.leaving = False
        old, self._current = self._current, held
        self._beside.append(old)
        old.leaving = True
        task = asyncio.create_task(self._let_go(old))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _room_for(self, record: Release) -> _Held:
        """The release where it is in memory already, or a place where it is being loaded."""
        try:
            while True:
                for held in self._beside:
                    if held.name == record.name and (held.chat is None or held.chat.record == record):
                        return held
                try:
                    return self._load(record.name)
                except Busy:
                    self._swap_waits = True  # so that the answers of others do end
                    await asyncio.sleep(LOOK)
        finally:
            self._swap_waits = False

    async def _let_go(self, held: _Held) -> None:
        while held.leaving:
            if held.idle:
                self._beside.remove(held)
                held.leaving = False
                await held.close()
            else:
                await asyncio.sleep(LOOK)

    async def ready(self) -> bool:
        """Whether the current release can answer."""
        return await self.current.engine.ready()

    async def close(self) -> None:
        """Free all engines, also one that is just being loaded."""
        for held in self._beside:
            held.leaving = False
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*[held.loaded() for held in self._beside], return_exceptions=True)
        for held in (self._current, *self._beside):
            await held.close()
