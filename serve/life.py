"""How the server ends: it takes no new work, lets what is under way finish within a bound, and goes."""

import logging
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import HANDLED_SIGNALS

from serve.connection import Connection

log = logging.getLogger("thousand")

OPEN_FILES = 4096
"""What the process may have open, where the system lets it: connections, and two more for each answer of llama.cpp."""

LAST_BYTES = 2
"""Seconds for what is answered already to reach its readers."""


@dataclass
class Life:
    """Whether new work is taken, and how much is under way."""

    stopping: bool = False
    under_way: int = 0

    @contextmanager
    def work(self) -> Iterator[None]:
        """A request that the end waits for."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


class Server(uvicorn.Server):
    """Answers until the first SIGTERM or SIGINT; then it listens on, refusing new work, until all is answered or
    `drain_seconds` are over. A second signal ends it at once, a third kills it."""

    def __init__(
        self, app: ASGIApp, life: Life, *, drain_seconds: float, connection: type[Connection] = Connection
    ) -> None:
        config = uvicorn.Config(
            app,
            http=connection,
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=LAST_BYTES,
        )
        super().__init__(config)
        self._life = life
        self._drain_seconds = drain_seconds
        self._until: float | None = None
        self._told = False

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. (A login's usual bound of 1,024 open files would be reached before that of connections.)"""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < OPEN_FILES:  # below zero there is no bound
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard) if hard >= 0 else OPEN_FILES, hard))
        super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end. (uvicorn's own would raise the signal again, and so not exit with 0.)"""
        if not self._life.stopping:
            self._life.stopping = True
            self._until = time.monotonic() + self._drain_seconds
        else:
            self._until = time.monotonic()
            self.config.timeout_graceful_shutdown = 0
            for each in HANDLED_SIGNALS:
                signal.signal(each, signal.SIG_DFL)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether the end has come."""
        if self._until is not None:
            if not self._told:
                self._told = True
                log.info(
                    "stopping: %d requests are under way, and have %g seconds",
                    self._life.under_way,
                    self._drain_seconds,
                )
            if self._life.under_way == 0 or time.monotonic() >= self._until:
                self.should_exit = True
        return await super().on_tick(counter)
