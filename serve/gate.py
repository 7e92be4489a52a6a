"""What is turned away before a route reads it: requests to a foreign name, from foreign pages, of another kind than JSON, too
large, too slow, or while the server is stopping."""

import asyncio
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.access import Access
from serve.errors import ApiError
from serve.life import Life

MAX_BODY_BYTES = 2_000_000
BODY_SECONDS = 20.0
"""For a body to come whole."""

CLOSE = {"Connection": "close"}


class Gate:
    """ASGI middleware in front of all routes, the page's too."""

    def __init__(self, app: ASGIApp, *, access: Access, life: Life) -> None:
        self._app = app
        self._access = access
        self._life = life

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in OpenAI's shape, or pass on with a bound on the body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refused is not None:
            await refused.response()(scope, receive, send)
        else:
            await self._app(scope, _bounded(receive), send)

    def _refusal(self, method: str, path: str, headers: Headers) -> ApiError | None:
        changes = method not in ("GET", "HEAD", "OPTIONS")
        if not self._access.answers_to(_name(headers.get("host"))):
            return ApiError(
                400, "Invalid host header: without a key only this machine is answered.", code="unknown_host"
            )
        if self._life.stopping and (path.startswith("/v1/") or changes) and not path.endswith("/cancel"):
            return _stopping()
        origin = headers.get("origin")
        if changes and origin is not None and not self._own(origin, headers) and not self._access.allows_origin(origin):
            return ApiError(403, f"Requests from {ascii(origin)[1:-1]} are not answered.", code="foreign_origin")
        length = headers.get("content-length", "0")
        if length.isdecimal() and (len(length) > 12 or int(length) > MAX_BODY_BYTES):
            return too_large(f"The body has {length} bytes")
        has_body = length.strip("0") or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if path.startswith("/v1/") and has_body and kind != "application/json":
            return ApiError(
                415,
                "The body must be JSON and say so; send the header: Content-Type: application/json",
                code="unsupported_media_type",
            )
        return None

    def _own(self, origin: str, headers: Headers) -> bool:
        return urlsplit(origin).netloc == headers.get("host")


def _name(host: str | None) -> str | None:
    """The name or address in a Host header, without the port."""
    try:
        return urlsplit(f"//{host or ''}").hostname
    except ValueError:
        return None


def _stopping() -> ApiError:
    return ApiError(
        503,
        "The server is stopping; ask again in a moment.",
        kind="server_error",
        code="stopping",
        retry_after=5,
        headers=CLOSE,
    )


def too_large(what: str) -> ApiError:
    """A body over its bound."""
    return ApiError(413, f"{what}; {MAX_BODY_BYTES} are read.", code="body_too_large", headers=CLOSE)


def _bounded(receive: Receive) -> Receive:
    """The same body, which must be small enough and come fast enough; its length need not be told before."""
    until, read, whole = time.monotonic() + BODY_SECONDS, 0, False

    async def bounded() -> Message:
        nonlocal read, whole
        if whole:  # what comes now is only that the client has left
            return await receive()
        try:
            async with asyncio.timeout(until - time.monotonic()):
                message = await receive()
        except TimeoutError:
            raise ApiError(
                408, f"The body did not come within {BODY_SECONDS:g} seconds.", code="body_too_slow", headers=CLOSE
            ) from None
        whole = not message.get("more_body", False)
        read += len(message.get("body", b""))
        if read > MAX_BODY_BYTES:
            raise too_large(f"The body has more than {MAX_BODY_BYTES} bytes")
        return message

    return bounded
