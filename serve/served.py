"""Which releases a server answers with, and by which names."""

from assistant.errors import ThousandError
from serve.chat import Chat

CURRENT = "thousand"
"""The model name that means "whatever release is current"."""


class UnknownModel(ThousandError):
    """A request names a model that is not here."""


class Served:
    """The chats of a server: every request finds its own here, and so does the page."""

    def __init__(self, current: Chat) -> None:
        self._current = current

    @property
    def current(self) -> Chat:
        """The chat of the release that is current."""
        return self._current

    def names(self) -> list[str]:
        """What a request may give as `model`."""
        return list(dict.fromkeys((CURRENT, self._current.name)))

    async def chat(self, name: str) -> Chat:
        """The chat of the release that a request names. Raises UnknownModel."""
        if name in self.names():
            return self._current
        raise UnknownModel(f"There is no model {name!r}; there are {' and '.join(self.names())}.")

    async def ready(self) -> bool:
        """Whether the current release can answer."""
        return await self._current.engine.ready()

    async def close(self) -> None:
        """Free all engines."""
        await self._current.engine.close()
