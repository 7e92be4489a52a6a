"""What tests of feedback send."""

from typing import Any

CONVERSATION = "0123456789abcdef0123456789abcdef"


def said(identifier: str, parent: str | None, role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"id": identifier, "parent": parent, "role": role, "content": content, **more}


QUESTION = said("q", None, "user", "What do you sell?")
ANSWER = said("a", "q", "assistant", "Shoes.", release="thousand-2", sampling={"temperature": 0.7, "seed": 0})
RETRY = said("b", "q", "assistant", "Boots and shoes.", release="thousand-2")


def submission(**fields: Any) -> dict[str, Any]:
    """Feedback on an answer: a like, where nothing else is said."""
    messages = fields.pop("messages", [QUESTION, ANSWER])
    conversation = {"id": fields.pop("conversation", CONVERSATION), "messages": messages}
    if not fields.keys() & {"verdict", "reason", "wanted", "keep"}:
        fields["verdict"] = "like"
    return {"conversation": conversation, "message": "a", **fields}
