"""What a person says of an answer on the page, on its way to `serve.feedback`."""

from typing import Any

from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from assistant.errors import ThousandError, validation_sentence
from serve.errors import ApiError
from serve.feedback import Submission, submit
from serve.review import delete_conversation
from serve.store import Store
from serve.ui import tree
from serve.ui.asking import NoAnswer
from serve.ui.tree import Conversation

SENT = ("id", "parent", "role", "content", "release", "sampling")
"""What the server is told of a message."""


def submission(conversation: Conversation, said: dict[str, Any]) -> dict[str, Any]:
    """What is sent: the branch up to the message that is meant, nothing that was said elsewhere or later."""
    nodes: list[dict[str, Any]] = [dict(node) for node in tree.branch(conversation, said["message"])]
    messages = [{name: node[name] for name in SENT if name in node} for node in nodes]
    return {"conversation": {"id": conversation["id"], "messages": messages}, **said}


async def give(store: Store, conversation: Conversation, said: dict[str, Any], by: str | None) -> Conversation:
    """The conversation with what was said of it, once it is stored. Raises NoAnswer with the reason when it is not."""
    try:
        given = Submission.model_validate(submission(conversation, said))
        await run_in_threadpool(submit, store, given, by=by)
    except ValidationError as error:
        raise NoAnswer(validation_sentence(error)) from None
    except ApiError as error:
        raise NoAnswer(error.detail) from None
    except ThousandError as error:
        raise NoAnswer(str(error)) from None
    told = {name: said[name] for name in ("verdict", "wanted") if said.get(name)}
    told |= {"kept": True} if said.get("keep") else {}
    return {**tree.about(conversation, said["message"], **told), "sent": True}


async def take_back(store: Store, conversation: str, by: str | None) -> str:
    """Delete what the server has of a conversation; what is to be known of it. Raises NoAnswer when it cannot be."""
    try:
        deleted = await run_in_threadpool(delete_conversation, store, conversation, by=by)
    except ApiError as error:
        raise NoAnswer(error.detail) from None
    except ThousandError as error:
        raise NoAnswer(str(error)) from None
    trained = ", ".join(deleted["releases"])
    return "What the server had of it is deleted." + (
        f" These releases have learnt from it: {trained}." if trained else ""
    )
