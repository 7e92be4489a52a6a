"""The page's door: logging in with a key, and which of Gradio's routes are there at all."""

import secrets
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request
from fastapi.responses import JSONResponse, Response

from serve.access import Access
from serve.errors import ApiError
from serve.keys import Keys

BEFORE_LOGIN = frozenset(
    [
        "/",
        "/review",
        "/retrain",
        "/login",
        "/config",
        "/theme.css",
        "/favicon.ico",
        "/robots.txt",
        "/manifest.json",
        "/gradio_api/app_id",
        "/gradio_api/login_check",
        "/gradio_api/startup-events",
        "/gradio_api/token",
        "/gradio_api/user",
    ]
)
"""What a browser asks for before anybody has logged in; none of it tells anything of conversations."""
STATIC = ("/assets/", "/static/", "/svelte/")
"""Files of Gradio itself."""
AFTER_LOGIN = frozenset(["call", "cancel", "heartbeat", "info", "queue", "reset", "run"])
"""What the page and gradio_client use of Gradio's API. All else is not there: routes that read files, take uploads, or fetch
addresses are none of this page's business."""

MOST_SESSIONS = 10_000


class Sessions(dict[str, str]):
    """Who is logged in: token to the name of the key, as Gradio asks for it. A session ends when its key is withdrawn."""

    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self._keys = keys
        self._digests: dict[str, bytes] = {}

    def open(self, given: str) -> str | None:
        """A new token for somebody who knows a key, None for others."""
        known = self._keys.check(given)
        if known is None:
            return None
        if len(self) >= MOST_SESSIONS:
            self.pop(next(iter(self)))
        token = secrets.token_urlsafe(32)
        self[token], self._digests[token] = known
        self._digests = {kept: digest for kept, digest in self._digests.items() if kept in self}
        return token

    def get(self, token: str | None, default: Any = None) -> Any:
        """The name of the key that a token stands for."""
        digest = self._digests.get(token) if token in self and token is not None else None
        known = None if digest is None else self._keys.find(digest)
        return default if known is None else known[0]


def page_routes_only(access: Access, sessions: Sessions, cookie: Callable[[], str]) -> Callable[[Request], Any]:
    """A route dependency for all of Gradio's routes: those that are not needed are not there, and those that are ask for a
    session when keys are asked for."""

    async def check(request: Request) -> None:
        path = request.scope["path"]
        if path in BEFORE_LOGIN or path.startswith(STATIC):
            return
        if not (path.startswith("/gradio_api/") and path.split("/")[2] in AFTER_LOGIN):
            raise ApiError(404, f"There is no {ascii(path)[1:-1]}.", code="unknown_url")
        if access.keys.asked and sessions.get(request.cookies.get(cookie())) is None:
            raise ApiError(401, "Log in first.", kind="authentication_error", code="not_logged_in")

    return check


def add_login(app: FastAPI, access: Access, sessions: Sessions, cookie: Callable[[], str]) -> None:
    """`POST /login`, before Gradio's own: the password is a key, the user name does not matter, and attempts are counted."""

    @app.post("/login", include_in_schema=False)
    async def login(request: Request, password: Annotated[str, Form()] = "") -> Response:
        access.count_login(request.client.host if request.client else "")
        token = sessions.open(password)
        if token is None:
            raise ApiError(400, "Incorrect credentials.", kind="authentication_error", code="invalid_api_key")
        response = JSONResponse({"success": True})
        secure = request.url.scheme == "https"
        response.set_cookie(cookie(), token, httponly=True, samesite="lax", secure=secure)
        return response
