"""The outermost layer of the HTTP application: each request gets an id, a line in the log, and a place in the metrics."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import unforeseen
from serve.life import Life
from serve.metrics import Meter
from serve.seen import Seen, request_id, watching

PLAIN = ("/health", "/ready", "/metrics")
"""Routes that are asked all the time by machines."""
CLIENT_LEFT = 499
"""What the log and the metrics say of a request whose client left before it was answered; nginx's number."""


def route_of(scope: Scope) -> str:
    """The route as metrics name it: few names, whatever is asked for."""
    if scope["path"] in PLAIN:
        return str(scope["path"])
    if not scope["path"].startswith("/v1/"):
        return "page"
    return str(getattr(scope.get("route"), "path", "/v1/"))


@contextmanager
def page_turn(meter: Meter, life: Life, *, key: str | None, client: str) -> Iterator[Seen]:
    """A question asked on the page, which comes without a request of its own."""
    seen = Seen(meter, "page", "POST", "/", client, request_id(None), key)
    try:
        with life.work():
            yield seen
    finally:
        seen.end()


class Watching:
    """ASGI middleware. What fails inside becomes a 500 in OpenAI's shape that names the request's id, and the traceback
    goes into the log under the same id."""

    def __init__(self, app: ASGIApp, *, meter: Meter, life: Life) -> None:
        self._app = app
        self._meter = meter
        self._life = life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, client = scope["path"], scope.get("client")
        given = Headers(scope=scope).get("x-request-id")
        host = client[0] if client else ""
        is_work = path.startswith("/v1/")
        seen = Seen(self._meter, "api" if is_work else "page", scope["method"], path, host, request_id(given))
        watching.set(seen)

        async def hear() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and seen.status is None:
                seen.status = CLIENT_LEFT
            return message

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = seen.status or message["status"]
                MutableHeaders(scope=message)["x-request-id"] = seen.id
            await send(message)

        try:
            with self._life.work() if is_work else nullcontext():
                await self._answer(seen, scope, hear, tell)
        finally:
            status = "cut" if seen.status is None else str(seen.status)
            self._meter.requests.labels(route_of(scope), status).inc()
            if is_work or status == "cut" or status >= "400":
                seen.end()

    async def _answer(self, seen: Seen, scope: Scope, receive: Receive, tell: Send) -> None:
        try:
            await self._app(scope, receive, tell)
        except ClientDisconnect:
            return
        except Exception:
            if seen.status is not None:  # too late for another answer: the server cuts the connection, and logs why
                seen.error = "internal_error"
                raise
            await unforeseen().response()(scope, receive, tell)
