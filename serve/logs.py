"""The log: a line for each request and each thing that went wrong, on standard error.

Lines are for a person where standard error is a terminal, and JSON elsewhere. What was typed and answered never stands in
them, so that of an exception its kind and where it was raised are told, and not its message.
"""

import asyncio
import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

from serve.seen import watching


def _where(error: BaseException) -> str:
    """The traceback without messages, which may hold what somebody typed."""
    told: list[str] = []
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        frames = "".join(traceback.format_tb(following.__traceback__))
        told.append(f"Traceback (most recent call last):\n{frames}{type(following).__qualname__}")
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return "\nduring\n".join(told)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its message."""
    fields: dict[str, Any] = dict(getattr(record, "request", {}))
    if record.exc_info and record.exc_info[1] is not None:
        fields["exception"] = _where(record.exc_info[1])
    if "id" not in fields and (seen := watching.get()) is not None:
        fields["id"] = seen.id
    return fields


def _is_news(record: logging.LogRecord) -> bool:
    """All but uvicorn's reports of requests that are cut when the server ends; their own lines say so."""
    was_cut = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not (was_cut or record.msg.startswith("Cancel %s running task"))


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "message": record.getMessage().strip()}
        return json.dumps(line | _fields(record), ensure_ascii=False)


class TextLines(logging.Formatter):
    """Lines for a person: the time, what it is, and `name=value` for the rest."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        exception = fields.pop("exception", None)
        told = [datetime.fromtimestamp(record.created).strftime("%H:%M:%S")]
        if hasattr(record, "request"):
            told += [f"{fields.pop('method')} {ascii(fields.pop('path'))[1:-1]}", str(fields.pop("status", "-"))]
        else:
            told += [record.levelname.lower(), record.getMessage().strip()]
        told += [f"{name}={value}" for name, value in fields.items()]
        return " ".join(told) + (f"\n{exception}" if exception else "")


def log_printed_tracebacks() -> None:
    """Gradio prints tracebacks, whose messages may quote what was typed; from now on this process logs them instead."""

    def logged(*_: object, **__: object) -> None:
        logging.getLogger("thousand").exception("a call of the page failed")

    traceback.print_exc = logged


def log_to(stream: TextIO = sys.stderr) -> None:
    """Send this process's log there: our own lines, and warnings and errors of the libraries."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(_is_news)
    handler.setFormatter(TextLines() if stream.isatty() else JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("thousand").setLevel(logging.INFO)
