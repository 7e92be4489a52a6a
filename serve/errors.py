"""Errors as OpenAI's API tells them, for everything that can go wrong with a request."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from http import HTTPStatus

from fastapi import Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from serve.chat import Busy, Refused
from serve.engines.base import EngineBusy, EngineError, EngineRefused
from serve.seen import watching

log = logging.getLogger("thousand")

LONGEST_NAME = 64
"""Characters of a name that a client sent, when it is told of."""


class Problem(TypedDict):
    """What went wrong: `param` is the field at fault, as in `messages[0].content`."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The body of every error."""

    error: Problem


class ApiError(HTTPException):
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
        headers: Mapping[str, str] | None = None,
    ) -> None:
        wait = {} if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(status, message, {**(headers or {}), **wait})
        self.code = code
        param = None if parameter is None else _writable(parameter)
        self.body: ErrorBody = {"error": {"message": _writable(message), "type": kind, "param": param, "code": code}}

    def response(self) -> JSONResponse:
        """The answer that tells it; the request's line in the log names its code."""
        if (seen := watching.get()) is not None:
            seen.error = self.code or str(self.status_code)
        return JSONResponse(self.body, self.status_code, headers=self.headers)


def _writable(text: str) -> str:
    """A text that a client sent may hold what is no character."""
    return text.encode(errors="backslashreplace").decode()


def _place(loc: Sequence[str | int]) -> str:
    """A field as OpenAI writes it, as in `messages[0].content`. Names of unions' branches begin with `~`."""
    parts = [part for part in loc if not str(part).startswith("~")]
    parts = parts[1:] if parts[:1] == ["body"] else parts
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def not_found(request: Request) -> ApiError:
    """A path that leads nowhere."""
    path = request.scope["path"][:LONGEST_NAME]
    return ApiError(404, f"There is no {path}; docs/serving.md lists what there is.", code="unknown_url")


def not_allowed(request: Request, allowed: Sequence[str]) -> ApiError:
    """A method that a path does not take."""
    path, methods = request.scope["path"][:LONGEST_NAME], ", ".join(allowed)
    text = f"{path} takes {methods}, not {request.method}."
    return ApiError(405, text, code="method_not_allowed", headers={"Allow": methods})


async def nothing_there(request: Request, error: Exception) -> Response:
    """An exception handler for the page's application, which answers for every path that is nobody's: a program is told in
    OpenAI's shape. What the page itself says stays as it is."""
    assert isinstance(error, HTTPException)
    its_own = error.detail != HTTPStatus(error.status_code).phrase
    if its_own or "text/html" in request.headers.get("accept", ""):
        return await http_exception_handler(request, error)
    return await http_error(request, error)


async def http_error(request: Request, error: Exception) -> Response:
    """An exception handler for what the framework itself turns away, and for ApiError."""
    assert isinstance(error, HTTPException)
    if isinstance(error, ApiError):
        return error.response()
    if error.status_code == 404:
        return not_found(request).response()
    if error.status_code == 405:
        return not_allowed(request, (error.headers or {})["Allow"].split(", ")).response()
    return ApiError(error.status_code, error.detail, headers=error.headers).response()


CODES = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter"}
MOST_PROBLEMS = 10


def invalid(error: RequestValidationError, fields: Iterable[str]) -> ApiError:
    """All problems of a request in one message, and the first field at fault; of a name that is none, the nearest of `fields`."""
    lines: dict[str, str] = {}
    problems = error.errors()
    for problem in problems[:MOST_PROBLEMS]:
        place, text = _place(problem["loc"])[: 2 * LONGEST_NAME], str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            near = get_close_matches(place, fields, n=1) if len(place) < LONGEST_NAME else []
            text = "is not a field of this endpoint" + (f"; did you mean {near[0]}?" if near else "")
        elif not place and ": " in text:  # told of the whole body by a rule on several fields
            place, _, text = text.partition(": ")
        lines.setdefault(f"{place}: {text}" if place else text, place)
    more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
    first = next(iter(lines.values()))
    return ApiError(
        400, "; ".join(lines) + more, parameter=first or None, code=CODES.get(problems[0]["type"], "invalid_value")
    )


def refused(error: Refused) -> ApiError:
    """A turn that cannot be taken, as an API error."""
    return ApiError(400, str(error), parameter=error.parameter, code=error.code)


def busy(error: Busy | EngineBusy) -> ApiError:
    """Too much work for now, with when to try again."""
    wait = error.retry_after if isinstance(error, Busy) else 2
    return ApiError(429, str(error), kind="rate_limit_error", code="busy", retry_after=wait)


def unforeseen() -> ApiError:
    """The exception that is being handled, which is nobody's but the server's: its traceback goes into the log under the
    request's id."""
    log.exception("the request failed")
    seen = watching.get()
    assert seen is not None
    seen.error = "internal_error"
    return ApiError(
        500,
        f"The server failed; its log says more under the id {seen.id}.",
        kind="server_error",
        code="internal_error",
    )


def engine_failure(error: EngineError) -> ApiError:
    """What an engine could not do, as an API error."""
    if isinstance(error, EngineBusy):
        return busy(error)
    if isinstance(error, EngineRefused):
        return ApiError(400, str(error), code="engine_refused")
    return ApiError(500, str(error), kind="server_error", code="engine_error")
