"""HTTP: OpenAI-compatible routes over `serve.chat`."""

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import SecretStr, ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.chat import Busy, Chat, Refused, Turn
from serve.engines.base import EngineBusy, EngineError, EngineRefused
from serve.wire import ChatRequest

CURRENT = "thousand"
"""The model name that means "whatever release is served"."""


EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]

MAX_BODY_BYTES = 2_000_000


class ApiError(Exception):
    """An error in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        parameter: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": parameter, "code": code}}
        self.headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, headers=self.headers)


def _validation_message(errors: list[Any]) -> tuple[str, str | None]:
    """All problems of a request in one message, and the first field at fault."""
    lines: list[str] = []
    for error in errors:
        if error["type"] == "json_invalid":
            lines.append(f"the body is not JSON ({error['ctx']['error']})")
            continue
        place = [
            str(part)
            for part in error["loc"]
            if part not in ("body", "str", "list[constrained-str]") and not str(part).startswith(("function-", "list["))
        ]
        text = error["msg"].removeprefix("Value error, ")
        lines.append(f"{'.'.join(place)}: {text}" if place else text)
    first = lines[0].split(":", 1)[0] if lines else ""
    return "; ".join(dict.fromkeys(lines)), first if first.replace("_", "").replace(".", "").isalnum() else None


def _invalid(error: RequestValidationError | ValidationError) -> ApiError:
    message, parameter = _validation_message(list(error.errors()))
    return ApiError(400, message, parameter=parameter, code="invalid_value")


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


def routes(chat: Chat, key: SecretStr | None) -> APIRouter:
    """The `/v1` routes for one served release."""
    router = APIRouter(prefix="/v1", dependencies=[require_key(key)])
    created = int(chat.record.created.timestamp()) if chat.record else 0

    def card(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": "thousand"}

    def check_model(name: str) -> None:
        if name not in (CURRENT, chat.name):
            raise ApiError(
                404,
                f"There is no model {name!r}; there are {CURRENT} and {chat.name}.",
                parameter="model",
                code="model_not_found",
            )

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card(name) for name in dict.fromkeys((CURRENT, chat.name))]}

    @router.get("/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        check_model(name)
        return card(name)

    @router.post("/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Response | dict[str, Any]:
        check_model(body.model)
        try:
            turn = chat.turn([message.message() for message in body.messages], body.sampling(chat.sampling))
        except ValidationError as error:
            raise _invalid(error) from None
        except Refused as error:
            raise ApiError(400, str(error), parameter=error.parameter, code=error.code) from None
        except Busy as error:
            raise _busy(str(error)) from None
        identity = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": chat.name}
        if body.stream:
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            events = _sse(turn, identity, with_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        answer = await _whole(turn, request)
        if answer is None:
            return Response(status_code=499)
        message = {"role": "assistant", "content": answer, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": turn.finish_reason}
        return {**identity, "object": "chat.completion", "choices": [choice], "usage": _usage(turn)}

    @router.api_route("/{path:path}", methods=EVERY_METHOD, include_in_schema=False)
    async def unknown(path: str, request: Request) -> None:
        if path in ("chat/completions", "models"):
            method = "POST" if path == "chat/completions" else "GET"
            raise ApiError(405, f"/v1/{path} takes {method}, not {request.method}.", code="method_not_allowed")
        raise ApiError(
            404, f"There is no /v1/{path}; there are /v1/chat/completions and /v1/models.", code="unknown_url"
        )

    return router


async def _whole(turn: Turn, request: Request) -> str | None:
    """The whole answer, or None when the client left before it was there; the engine is freed then."""

    async def collect() -> str:
        async with aclosing(turn.text) as text:
            return "".join([piece async for piece in text])

    work = asyncio.create_task(collect())
    while not (await asyncio.wait({work}, timeout=0.2))[0]:
        if await request.is_disconnected():
            work.cancel()
            await asyncio.wait({work})
            return None
    try:
        return work.result()
    except EngineError as error:
        raise _engine_failure(error) from None


def _engine_failure(error: EngineError) -> ApiError:
    if isinstance(error, EngineBusy):
        return _busy(str(error))
    if isinstance(error, EngineRefused):
        return ApiError(400, str(error), code="engine_refused")
    return ApiError(500, str(error), kind="server_error", code="engine_error")


def _busy(message: str) -> ApiError:
    return ApiError(429, message, kind="rate_limit_error", code="busy", retry_after=2)


def _usage(turn: Turn) -> dict[str, Any]:
    usage = turn.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


async def _sse(turn: Turn, identity: dict[str, Any], with_usage: bool) -> AsyncGenerator[str, None]:
    """Server-sent events: a chunk with the role, one for each delta, one with the finish reason, `[DONE]`."""

    def event(value: dict[str, Any]) -> str:
        return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event(
            {
                **identity,
                "object": "chat.completion.chunk",
                "choices": [choice],
                **({"usage": None} if with_usage else {}),
            }
        )

    async with aclosing(turn.text) as text:
        yield chunk({"role": "assistant", "content": ""})
        try:
            async for piece in text:
                yield chunk({"content": piece})
        except EngineError as error:
            yield event(_engine_failure(error).body)
            return
        yield chunk({}, turn.finish_reason)
        if with_usage:
            yield event({**identity, "object": "chat.completion.chunk", "choices": [], "usage": _usage(turn)})
        yield "data: [DONE]\n\n"


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


def build_app(chat: Chat, *, key: SecretStr | None, hosts: list[str]) -> FastAPI:
    """The HTTP application without the page. `hosts` are the Host headers that are answered (`*` is any)."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await chat.engine.close()

    app = FastAPI(title="Thousand", lifespan=lifespan, docs_url=None, redoc_url=None, max_body_size=2 * MAX_BODY_BYTES)
    app.add_middleware(Gate)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _invalid(error).response()

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return ApiError(error.status_code, str(error.detail)).response()

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return ApiError(500, "The server failed; see its log.", kind="server_error", code="internal_error").response()

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/ready", response_model=None)
    async def ready() -> Response:
        """Whether it can answer."""
        good = await chat.engine.ready()
        return JSONResponse({"status": "ready" if good else "not ready", "release": chat.name}, 200 if good else 503)

    app.include_router(routes(chat, key))
    return app
