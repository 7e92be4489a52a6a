"""HTTP: OpenAI-compatible routes over `serve.chat`."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import SecretStr, ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from serve.answers import sse, usage_of, whole
from serve.chat import Busy, Refused
from serve.errors import ApiError, busy, invalid, refused
from serve.gate import MAX_BODY_BYTES, Gate, require_key
from serve.served import CannotLoad, Served, UnknownModel
from serve.wire import ChatRequest

EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]


def no_such_model(error: UnknownModel) -> ApiError:
    return ApiError(404, str(error), parameter="model", code="model_not_found")


def routes(served: Served, key: SecretStr | None) -> APIRouter:
    """The `/v1` routes."""
    router = APIRouter(prefix="/v1", dependencies=[require_key(key)])

    async def cards() -> dict[str, dict[str, Any]]:
        found = await asyncio.to_thread(served.models)
        card = {"object": "model", "owned_by": "thousand"}
        return {name: {"id": name, "created": created, **card} for name, created in found.items()}

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": list((await cards()).values())}

    @router.get("/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        found = await cards()
        if name not in found:
            raise no_such_model(served.unknown(name))
        return found[name]

    @router.post("/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Response | dict[str, Any]:
        try:
            async with served.chat(body.model) as chat:
                turn = chat.turn([message.message() for message in body.messages], body.sampling(chat.sampling))
        except UnknownModel as error:
            raise no_such_model(error) from None
        except CannotLoad as error:
            raise ApiError(503, str(error), kind="server_error", parameter="model", code="model_unavailable") from None
        except ValidationError as error:
            raise invalid(error) from None
        except Refused as error:
            raise refused(error) from None
        except Busy as error:
            raise busy(error) from None
        identity = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": chat.name}
        if body.stream:
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            events = sse(turn, identity, with_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        answer = await whole(turn, request)
        if answer is None:
            return Response(status_code=499)
        message = {"role": "assistant", "content": answer, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": turn.finish_reason}
        return {**identity, "object": "chat.completion", "choices": [choice], "usage": usage_of(turn)}

    @router.api_route("/{path:path}", methods=EVERY_METHOD, include_in_schema=False)
    async def unknown(path: str, request: Request) -> None:
        if path in ("chat/completions", "models"):
            method = "POST" if path == "chat/completions" else "GET"
            raise ApiError(405, f"/v1/{path} takes {method}, not {request.method}.", code="method_not_allowed")
        raise ApiError(
            404, f"There is no /v1/{path}; there are /v1/chat/completions and /v1/models.", code="unknown_url"
        )

    return router


def build_app(
    served: Served,
    *,
    key: SecretStr | None,
    hosts: list[str],
    background: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> FastAPI:
    """The HTTP application without the page. `hosts` are the Host headers that are answered (`*` is any); `background` runs
    for as long as it is up."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(background())] if background else []
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await served.close()

    app = FastAPI(title="Thousand", lifespan=lifespan, docs_url=None, redoc_url=None, max_body_size=2 * MAX_BODY_BYTES)
    app.add_middleware(Gate)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    _tell_errors(app)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/ready", response_model=None)
    async def ready() -> Response:
        """Whether it can answer."""
        good = await served.ready()
        status = {"status": "ready" if good else "not ready", "release": served.current.name}
        failed = {"failed": served.failed} if served.failed else {}
        return JSONResponse(status | failed, 200 if good else 503)

    app.include_router(routes(served, key))
    return app


def _tell_errors(app: FastAPI) -> None:
    """Every error in OpenAI's shape."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> Response:
        return invalid(error).response()

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        return ApiError(error.status_code, str(error.detail)).response()

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return ApiError(500, "The server failed; see its log.", kind="server_error", code="internal_error").response()
