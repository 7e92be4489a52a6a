"""Errors as OpenAI's API tells them, for everything that can go wrong with a request."""

from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from serve.chat import Busy, Refused
from serve.engines.base import EngineBusy, EngineError, EngineRefused
from serve.seen import watching

MOST_PROBLEMS = 10
MOST_CHARACTERS = 200
"""What an error tells of a request: so many problems, and of each so many characters."""


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
        headers: dict[str, str] | None = None,
    ) -> None:
        wait = {"Retry-After": str(retry_after)} if retry_after is not None else {}
        super().__init__(status, message, {**(headers or {}), **wait})
        self.code = code
        self.body = {"error": {"message": message, "type": kind, "param": parameter, "code": code}}

    def response(self) -> JSONResponse:
        """The answer that tells it; the request's line in the log names its code."""
        if (seen := watching.get()) is not None:
            seen.error = self.code or str(self.status_code)
        return JSONResponse(self.body, self.status_code, headers=self.headers)


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
    plain = len(first) <= MOST_CHARACTERS and first.replace("_", "").replace(".", "").isalnum()
    told = list(dict.fromkeys(lines))
    more = [f"and {len(told) - MOST_PROBLEMS} more"] if len(told) > MOST_PROBLEMS else []
    message = "; ".join([*(line[:MOST_CHARACTERS] for line in told[:MOST_PROBLEMS]), *more])
    return message, first if plain else None


def invalid(error: RequestValidationError | ValidationError) -> ApiError:
    message, parameter = _validation_message(list(error.errors()))
    return ApiError(400, message, parameter=parameter, code="invalid_value")


def refused(error: Refused) -> ApiError:
    """A turn that cannot be taken, as an API error."""
    return ApiError(400, str(error), parameter=error.parameter, code=error.code)


def busy(error: Busy | EngineBusy) -> ApiError:
    """Too much work for now, with when to try again."""
    wait = error.retry_after if isinstance(error, Busy) else 2
    return ApiError(429, str(error), kind="rate_limit_error", code="busy", retry_after=wait)


def engine_failure(error: EngineError) -> ApiError:
    """What an engine could not do, as an API error."""
    if isinstance(error, EngineBusy):
        return busy(error)
    if isinstance(error, EngineRefused):
        return ApiError(400, str(error), code="engine_refused")
    return ApiError(500, str(error), kind="server_error", code="engine_error")
