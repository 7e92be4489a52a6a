"""HTTP: OpenAI-compatible routes over `serve.chat`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from serve.answers import Reply, answer
from serve.body import StrictRoute
from serve.chat import Busy, Chat, Refused
from serve.errors import ApiError, ErrorBody, busy, http_error, invalid, not_allowed, not_found, refused
from serve.gate import MAX_BODY_BYTES, Gate, require_key
from serve.served import Served, UnknownModel
from serve.shapes import ChatCompletion, ChatShape, Completion, ModelCard, ModelList, TextShape
from serve.wire import ChatRequest, CompletionRequest

EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]
FIELDS = sorted(ChatRequest.model_fields | CompletionRequest.model_fields)


def _answers(*statuses: int, streams: bool = False) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside its object, for the OpenAPI document."""
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": "An error in OpenAI's shape"} for status in statuses
    }
    if streams:
        event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
        found[200] = {"content": {"text/event-stream": {"schema": event}}}
    return found


@contextmanager
def _told() -> Iterator[None]:
    """What a chat does not take, as an API error."""
    try:
        yield
    except Refused as error:
        raise refused(error) from None
    except Busy as error:
        raise busy(error) from None


def routes(served: Served, key: SecretStr | None) -> APIRouter:
    """The `/v1` routes."""
    router = APIRouter(prefix="/v1", dependencies=[require_key(key)], route_class=StrictRoute)
    asked = _answers(400, 401, 403, 404, 413, 415, 429, 500, streams=True)

    async def find(name: str) -> Chat:
        try:
            return await served.chat(name)
        except UnknownModel as error:
            raise ApiError(404, str(error), parameter="model", code="model_not_found") from None

    async def card(name: str) -> ModelCard:
        record = (await find(name)).record
        created = int(record.created.timestamp()) if record else 0
        return {"id": name, "object": "model", "created": created, "owned_by": "thousand"}

    @router.get("/models", responses=_answers(401))
    async def models() -> ModelList:
        """The releases that can be asked."""
        return {"object": "list", "data": [await card(name) for name in served.names()]}

    @router.get("/models/{name}", responses=_answers(401, 404))
    async def model(name: Annotated[str, Path(examples=["thousand"])]) -> ModelCard:
        """One of them."""
        return await card(name)

    @router.post("/chat/completions", response_model=ChatCompletion, responses=asked)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """The assistant's next answer in a conversation."""
        chat = await find(body.model)
        with _told():
            messages = [message.message() for message in body.messages]
            with_usage = body.with_usage
            turns = chat.turns(messages, body.samplings(chat.sampling), body.wanted)
        reply = Reply(chat, turns, ChatShape(chat.template, logprobs=bool(body.logprobs)))
        return await answer(request, reply, stream=bool(body.stream), with_usage=with_usage)

    @router.post("/completions", response_model=Completion, responses=asked)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """How a text goes on, without any conversation."""
        chat = await find(body.model)
        with _told():
            with_usage, prompts = body.with_usage, body.prompts
            turns = chat.continuations(prompts, body.samplings(chat.sampling), body.wanted)
        reply = Reply(chat, turns, TextShape(chat.template), prompts=len(prompts))
        return await answer(request, reply, stream=bool(body.stream), with_usage=with_usage)

    _answer_every_method(router, router.prefix)

    @router.api_route("/{path:path}", methods=EVERY_METHOD, include_in_schema=False)
    async def unknown(path: str, request: Request) -> None:
        raise not_found(request)  # and not the page, which is at /

    return router


def _answer_every_method(router: APIRouter, prefix: str = "") -> None:
    """HEAD where there is GET, and a 405 for the others, which would else be the page's, because it is at `/`."""
    taken: dict[str, set[str]] = {}
    for route in [route for route in router.routes if isinstance(route, APIRoute)]:
        path, methods = route.path.removeprefix(prefix), set(route.methods or ())
        if methods == {"GET"}:
            router.add_api_route(path, route.endpoint, methods=["HEAD"], include_in_schema=False)
            methods.add("HEAD")
        taken.setdefault(path, set()).update(methods)
    for path, allowed in taken.items():
        others = [method for method in EVERY_METHOD if method not in allowed]
        router.add_api_route(path, _refuser(sorted(allowed)), methods=others, include_in_schema=False)


def _refuser(allowed: list[str]) -> Callable[[Request], Awaitable[None]]:
    async def refuse(request: Request) -> None:
        raise not_allowed(request, allowed)

    return refuse


def build_app(served: Served, *, key: SecretStr | None, hosts: list[str]) -> FastAPI:
    """The HTTP application without the page. `hosts` are the Host headers that are answered (`*` is any)."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
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
        return JSONResponse(status, 200 if good else 503, headers=None if good else {"Retry-After": "2"})

    _answer_every_method(app.router)
    app.include_router(routes(served, key))
    return app


def _tell_errors(app: FastAPI) -> None:
    """Every error in OpenAI's shape."""
    app.add_exception_handler(HTTPException, http_error)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> Response:
        return invalid(error, FIELDS).response()

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return ApiError(500, "The server failed; see its log.", kind="server_error", code="internal_error").response()
