"""A request's body as JSON, read more strictly than Python's reader does, and types for what is in it."""

import json
from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_plain_validator_function

from serve.errors import ApiError


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are told apart; of two alike, one reader takes the first and another the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ApiError(400, f"{ascii(twice)[1:-1]}: is there twice", parameter=twice, code="invalid_json")
    return found


def _no_number(text: str) -> Any:
    raise ApiError(400, f"the body is not JSON ({text} is no number there)", code="invalid_json")


class StrictRequest(Request):
    """A request whose JSON is UTF-8, without NaN, without names that come twice, and not compressed."""

    async def json(self) -> Any:
        """The body. Raises ApiError."""
        encoding = self.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise ApiError(
                415,
                f"A body with content-encoding {encoding!r} is not read; send it as it is.",
                code="unsupported_encoding",
            )
        try:
            text = (await self.body()).decode("utf-8-sig")
            return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        except UnicodeDecodeError as error:
            raise ApiError(400, f"the body is not UTF-8 ({error.reason})", code="invalid_json") from None
        except RecursionError:
            raise ApiError(400, "the body is nested too deeply", code="invalid_json") from None
        except ValueError as error:  # also a number of thousands of digits
            raise ApiError(400, f"the body is not JSON ({error})", code="invalid_json") from None


class StrictRoute(APIRoute):
    """A route that reads its body as a StrictRequest does."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The handler."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            answer: Response = await handler(StrictRequest(request.scope, request.receive))
            return answer

        return strict


def _whole(value: Any) -> Any:
    """16.0 is 16: some clients have but one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""What makes an integer of a number without a fraction, whichever way it is written."""


class Only:
    """A field that other servers have, of which only the values without effect are taken."""

    def __init__(self, *plain: Any, why: str) -> None:
        self._plain = plain
        self._why = why

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": [*self._plain, None]}

    def _check(self, value: Any) -> Any:
        if not any(value == plain and isinstance(value, bool) == isinstance(plain, bool) for plain in self._plain):
            raise ValueError(self._why)
        return value


class Part(BaseModel):
    """An object of a request. Null stands for what is not given; what is not known is refused; no text is a number."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"additionalProperties": {"type": "null"}})

    @model_validator(mode="before")
    @classmethod
    def _null_is_nothing(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: item for name, item in value.items() if item is not None}
