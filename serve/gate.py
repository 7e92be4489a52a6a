"""What is turned away before a route reads it: requests without the key, from foreign pages, or too large."""

import hmac
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, Request
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import ApiError

MAX_BODY_BYTES = 2_000_000


def require_key(key: SecretStr | None) -> Any:
    """A route dependency that asks for the key, when there is one, as a bearer token."""

    async def check(request: Request) -> None:
        if key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), key.get_secret_value().encode()):
            raise ApiError(
                401,
                "The API key is missing or wrong; send it as: Authorization: Bearer KEY",
                kind="authentication_error",
                code="invalid_api_key",
            )

    return Depends(check)


class Gate:
    """ASGI middleware: turns away what need not be read.

    A page of another site may not post here (browsers send simple requests without asking), and a body has a bound.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or 413 in OpenAI's shape, or pass on."""
        refused = self._refusal(scope) if scope["type"] == "http" else None
        if refused is not None:
            await refused.response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        changes = scope["method"] not in ("GET", "HEAD")
        if changes and origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return ApiError(403, f"Requests from {ascii(origin)[1:-1]} are not answered.", code="foreign_origin")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > MAX_BODY_BYTES:
            return ApiError(413, f"The body has {length} bytes; {MAX_BODY_BYTES} are read.", code="body_too_large")
        return None
