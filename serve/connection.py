"""One client's connection, with bounds that uvicorn leaves out: on waiting for a request, on a reader who takes nothing,
and on how many there are. Without them a few hundred slow clients would keep everybody else out."""

import asyncio
import time

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """uvicorn's protocol with timers."""

    REQUEST_SECONDS = 30.0
    """For a request to come whole, after the connection or after the last answer. (The gate tells a slow body before.)"""
    STALLED_SECONDS = 30.0
    """For a reader to take what waits for it (64 KiB here, beside what the kernel holds). When it does not, it is cut, which
    frees the place of its answer."""
    MOST = 1000
    """Connections at a time. Beyond it the one that has waited longest for a request to come makes room."""

    waits_since: float | None = None
    _request_timer: asyncio.TimerHandle | None = None
    _stalled_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_request()
        if len(self.connections) > self.MOST:
            since = {
                c: c.waits_since for c in self.connections if isinstance(c, Connection) and c.waits_since is not None
            }
            min(since, key=since.__getitem__).cut()  # there is one: this connection itself

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answers() and not self.cycle.more_body:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._answers():
            self._wait_for_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_timer = self.loop.call_later(self.STALLED_SECONDS, self.cut)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stalled_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_stalled_timer()
        super().connection_lost(exc)

    def cut(self) -> None:
        """End the connection without waiting for the other side."""
        self.transport.abort()

    def _answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self.waits_since = time.monotonic()
        self._request_timer = self.loop.call_later(self.REQUEST_SECONDS, self.cut)

    def _stop_waiting(self) -> None:
        self.waits_since = None
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _stop_stalled_timer(self) -> None:
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None
