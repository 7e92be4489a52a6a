"""What a person says of an answer on the page, on its way to `serve.feedback`."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from assistant.errors import ThousandError, validation_sentence
from serve.errors import ApiError
from serve.ui import tree
from serve.ui.asking import NoAnswer
from serve.ui.tree import Conversation

SENT = ("id", "parent", "role", "content", "release", "sampling")
"""What the server is told of a message."""

Submit = Callable[[dict[str, Any], str | None], Any]
"""Stores a submission, as `POST /v1/feedback` takes it, from the one with a key's name."""


def submission(conversation: Conversation, said: dict[str, Any]) -> dict[str, Any]:
    """What is sent: the branch up to the message that is meant, nothing that was said elsewhere or later."""
    nodes: list[dict[str, Any]] = [dict(node) for node in tree.branch(conversation, said["message"])]
    messages = [{name: node[name] for name in SENT if name in node} for node in nodes]
    return {"conversation": {"id": conversation["id"], "messages": messages}, **said}


def opened() -> Submit | None:
    """How feedback is stored; None while this server has no store."""
    if importlib.util.find_spec("serve.feedback") is None:
        return None
    feedback, store = importlib.import_module("serve.feedback"), importlib.import_module("serve.store").Store()

    def submit(given: dict[str, Any], by: str | None) -> Any:
        return feedback.submit(store, feedback.Submission.model_validate(given), by=by)

    return submit


async def give(submit: Submit, conversation: Conversation, said: dict[str, Any], by: str | None) -> Conversation:
    """The conversation with what was said of it, once it is stored. Raises NoAnswer with the reason when it is not."""
    try:
        await run_in_threadpool(submit, submission(conversation, said), by)
    except ValidationError as error:
        raise NoAnswer(validation_sentence(error)) from None
    except ApiError as error:
        raise NoAnswer(error.detail) from None
    except ThousandError as error:
        raise NoAnswer(str(error)) from None
    told = {name: said[name] for name in ("verdict", "wanted") if said.get(name)}
    told |= {"kept": True} if said.get("keep") else {}
    return {**tree.about(conversation, said["message"], **told), "sent": True}
