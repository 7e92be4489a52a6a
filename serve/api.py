"""HTTP: OpenAI-compatible routes over `serve.chat`."""

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from serve.access import Access
from serve.answers import sse, usage_of, whole
from serve.chat import Busy, Chat, Refused
from serve.errors import ApiError, busy, invalid, refused
from serve.gate import Gate
from serve.life import Life
from serve.metrics import Meter
from serve.served import Served, UnknownModel
from serve.watching import Watching
from serve.wire import ChatRequest

EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]


def routes(served: Served, access: Access) -> APIRouter:
    """The `/v1` routes."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(access.require_key), Depends(access.keep_rate)])

    async def find(name: str) -> Chat:
        try:
            return await served.chat(name)
        except UnknownModel as error:
            raise ApiError(404, str(error), parameter="model", code="model_not_found") from None

    async def card(name: str) -> dict[str, Any]:
        record = (await find(name)).record
        created = int(record.created.timestamp()) if record else 0
        return {"id": name, "object": "model", "created": created, "owned_by": "thousand"}

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [await card(name) for name in served.names()]}

    @router.get("/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        return await card(name)

    @router.post("/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, request: Request) -> Response | dict[str, Any]:
        chat = await find(body.model)
        try:
            turn = chat.turn([message.message() for message in body.messages], body.sampling(chat.sampling))
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


def build_app(served: Served, *, access: Access, meter: Meter | None = None, life: Life | None = None) -> FastAPI:
    """The HTTP application without the page."""
    meter = Meter(served) if meter is None else meter
    life = Life() if life is None else life

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await served.close()

    app = FastAPI(title="Thousand", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, access=access, life=life)
    # Always there, also without any origin: Gradio, finding none, would let in pages from everywhere.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=access.origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["X-Request-ID", "Retry-After"],
    )
    app.add_middleware(Watching, meter=meter, life=life)
    _tell_errors(app)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/ready", response_model=None)
    async def ready() -> Response:
        """Whether it can answer."""
        good = not life.stopping and await served.ready()
        status = {"status": "ready" if good else "not ready", "release": served.current.name}
        return JSONResponse(status, 200 if good else 503)

    @app.get("/metrics", dependencies=[Depends(access.require_key)])
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(meter.exposition(), media_type=CONTENT_TYPE_LATEST)

    app.include_router(routes(served, access))
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
