"""HTTP: OpenAI-compatible routes over `serve.chat`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from serve.access import Access
from serve.answers import Reply, answer
from serve.body import StrictRoute
from serve.chat import Busy, Refused
from serve.errors import ApiError, ErrorBody, busy, http_error, invalid, not_allowed, not_found, refused
from serve.feedback import Accepted, Submission, submit
from serve.gate import Gate
from serve.life import Life
from serve.metrics import Meter
from serve.seen import watching
from serve.served import CannotLoad, Served, UnknownModel
from serve.shapes import ChatCompletion, ChatShape, Completion, ModelCard, ModelList, TextShape
from serve.store import Store, StoreError
from serve.watching import Watching
from serve.wire import ChatRequest, CompletionRequest

EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]
FIELDS = sorted(ChatRequest.model_fields | CompletionRequest.model_fields | Submission.model_fields)


def _answers(*statuses: int, streams: bool = False) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside its object, for the OpenAPI document."""
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": "An error in OpenAI's shape"} for status in statuses
    }
    if streams:
        event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
        found[200] = {"content": {"text/event-stream": {"schema": event}}}
    return found


def no_such_model(error: UnknownModel) -> ApiError:
    return ApiError(404, str(error), parameter="model", code="model_not_found")


@contextmanager
def _told() -> Iterator[None]:
    """What is not there, or not taken, as an API error."""
    try:
        yield
    except UnknownModel as error:
        raise no_such_model(error) from None
    except CannotLoad as error:
        raise ApiError(503, str(error), kind="server_error", parameter="model", code="model_unavailable") from None
    except Refused as error:
        raise refused(error) from None
    except Busy as error:
        raise busy(error) from None
    except StoreError as error:
        raise ApiError(503, str(error), kind="server_error", code="store_unavailable") from None


def _by() -> str | None:
    """The name of the key that the request came with."""
    seen = watching.get()
    return None if seen is None else seen.key


def routes(served: Served, access: Access, store: Store) -> APIRouter:
    """The `/v1` routes."""
    router = APIRouter(
        prefix="/v1",
        dependencies=[Depends(access.require_key), Depends(access.keep_rate)],
        route_class=StrictRoute,
    )
    asked = _answers(400, 401, 403, 404, 408, 413, 415, 429, 500, 503, streams=True)

    async def cards() -> dict[str, ModelCard]:
        found = await asyncio.to_thread(served.models)
        return {
            name: {"id": name, "object": "model", "created": created, "owned_by": "thousand"}
            for name, created in found.items()
        }

    @router.get("/models", responses=_answers(401))
    async def models() -> ModelList:
        """The releases that can be asked."""
        return {"object": "list", "data": list((await cards()).values())}

    @router.get("/models/{name}", responses=_answers(401, 404))
    async def model(name: Annotated[str, Path(examples=["thousand"])]) -> ModelCard:
        """One of them."""
        found = await cards()
        if name not in found:
            raise no_such_model(served.unknown(name))
        return found[name]

    @router.post("/chat/completions", response_model=ChatCompletion, responses=asked)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """The assistant's next answer in a conversation."""
        with _told():
            async with served.chat(body.model) as chat:
                messages = [message.message() for message in body.messages]
                with_usage = body.with_usage
                turns = chat.turns(messages, body.samplings(chat.sampling), body.wanted)
        reply = Reply(chat, turns, ChatShape(chat.template, logprobs=bool(body.logprobs)))
        return await answer(request, reply, stream=bool(body.stream), with_usage=with_usage)

    @router.post("/completions", response_model=Completion, responses=asked)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """How a text goes on, without any conversation."""
        with _told():
            async with served.chat(body.model) as chat:
                with_usage, prompts = body.with_usage, body.prompts
                turns = chat.continuations(prompts, body.samplings(chat.sampling), body.wanted)
        reply = Reply(chat, turns, TextShape(chat.template), prompts=len(prompts))
        return await answer(request, reply, stream=bool(body.stream), with_usage=with_usage)

    @router.post("/feedback", responses=_answers(400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 503))
    async def feedback(body: Submission) -> Accepted:
        """What a person says of an answer, with the conversation it was given in."""
        with _told():
            return await asyncio.to_thread(submit, store, body, by=_by())

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


def build_app(
    served: Served,
    *,
    access: Access,
    store: Store | None = None,
    meter: Meter | None = None,
    life: Life | None = None,
    background: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> FastAPI:
    """The HTTP application without the page. What people say goes into `store`, by default the one of THOUSAND_HOME.
    `background` runs for as long as it is up."""
    store = Store() if store is None else store
    meter = Meter(served) if meter is None else meter
    life = Life() if life is None else life

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(background())] if background else []
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await served.close()

    app = FastAPI(title="Thousand", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, access=access, life=life)
    # Always there, also without any origin: Gradio, finding none, would let in pages from everywhere.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=access.origins,
        allow_methods=["GET", "POST", "DELETE"],
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
        failed = {"failed": served.failed} if served.failed else {}
        return JSONResponse(status | failed, 200 if good else 503, headers=None if good else {"Retry-After": "2"})

    @app.get(
        "/metrics",
        dependencies=[Depends(access.require_key)],
        response_class=PlainTextResponse,
        responses=_answers(401),
    )
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(meter.exposition(), media_type=CONTENT_TYPE_LATEST)

    _answer_every_method(app.router)
    app.include_router(routes(served, access, store))
    return app


def _tell_errors(app: FastAPI) -> None:
    """Every error in OpenAI's shape."""
    app.add_exception_handler(HTTPException, http_error)

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> Response:
        return invalid(error, FIELDS).response()
