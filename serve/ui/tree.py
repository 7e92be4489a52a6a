"""A conversation as the browser keeps it: a tree of messages, in which edits and retries are branches, and the branch that is shown.

A message stands after the one it answers, so no chain of parents can be a ring. Every function here leaves its arguments as
they are and gives a new conversation back.
"""

import re
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic wants this one before Python 3.12
)
from uuid import uuid4

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from assistant.dialogue import Dialogue, Message, Role, is_text

Finished = Literal["stop", "length", "stopped", "failed"]
"""How an answer ended: by itself, at the longest length allowed, by the person, or with the engine."""

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


def _text(value: str) -> str:
    if not value.strip() or not is_text(value):
        raise ValueError("is no text")
    return value


Text = Annotated[str, AfterValidator(_text)]


@with_config(ConfigDict(extra="forbid"))
class Node(TypedDict):
    """A message. The optional parts are told of answers: by whom, how, how many tokens in how many seconds, and what the person
    said of it."""

    id: Id
    parent: Id | None
    role: Role
    content: Text
    release: NotRequired[str | None]
    sampling: NotRequired[dict[str, Any]]
    tokens: NotRequired[int]
    seconds: NotRequired[float]
    finish: NotRequired[Finished]
    verdict: NotRequired[Literal["like", "dislike"]]
    wanted: NotRequired[Text]
    kept: NotRequired[bool]


@with_config(ConfigDict(extra="forbid"))
class Conversation(TypedDict):
    """`leaf` is the last message of the branch that is shown; `name` what the person called it; `changed` is the browser's, in
    milliseconds since 1970; `sent` whether any of it has been stored on the server."""

    id: Id
    messages: dict[str, Node]
    leaf: Id | None
    name: NotRequired[str | None]
    changed: NotRequired[float]
    sent: NotRequired[bool]


_READ: TypeAdapter[Conversation] = TypeAdapter(Conversation)


def new_id() -> str:
    return uuid4().hex


def new() -> Conversation:
    """A conversation in which nothing was said yet."""
    return {"id": new_id(), "messages": {}, "leaf": None}


def read(given: object) -> Conversation:
    """A conversation that came from a browser; none is a new one. Raises ValueError when it is broken."""
    if given is None:
        return new()
    found = _READ.validate_python(given)
    before: set[str | None] = {None}
    for name, node in found["messages"].items():
        if name != node["id"] or node["parent"] not in before:
            raise ValueError("a message stands before the one it follows")
        before.add(name)
    if found["leaf"] not in before:
        raise ValueError("the last message is not there")
    return found


def branch(conversation: Conversation, last: str | None = None) -> list[Node]:
    """The messages from the first to `last` (else to the last that is shown)."""
    found: list[Node] = []
    at = conversation["leaf"] if last is None else last
    while at is not None:
        found.append(conversation["messages"][at])
        at = found[-1]["parent"]
    return found[::-1]


def add(conversation: Conversation, node: Node) -> Conversation:
    """With a message, which is the last of the branch shown from now on. One of the same id is replaced."""
    return {**conversation, "messages": {**conversation["messages"], node["id"]: node}, "leaf": node["id"]}


def about(conversation: Conversation, message: str, **told: Any) -> Conversation:
    """With more told of a message."""
    node = {**conversation["messages"][message], **told}
    return {**conversation, "messages": {**conversation["messages"], message: node}}  # type: ignore[dict-item]


def ask(conversation: Conversation, text: str, system: str, instead_of: str | None = None) -> Conversation:
    """With a question at the end, or beside the earlier one that it is asked instead of.

    A question that got no answer gives way to it too. Where the system prompt has changed, what was said before is told
    anew under the new one, as a branch of its own: an answer's past is never rewritten.
    """
    before = branch(conversation, instead_of)
    if before and before[-1]["role"] == "user":  # the earlier question itself, or one that got no answer
        before.pop()
    conversation = {**conversation, "leaf": before[-1]["id"] if before else None}
    conversation = _under(conversation, before, system.strip())
    return add(conversation, {"id": new_id(), "parent": conversation["leaf"], "role": "user", "content": text})


def _under(conversation: Conversation, before: list[Node], system: str) -> Conversation:
    """With the branch `before` under a system prompt, which may be none."""
    is_under = before[0]["content"] if before and before[0]["role"] == "system" else ""
    if is_under == system:
        return conversation
    conversation = {**conversation, "leaf": None}
    turns = [node for node in before if node["role"] != "system"]
    if system:
        found = next((node for node in conversation["messages"].values() if _is(node, "system", system)), None)
        node: Node = {"id": new_id(), "parent": None, "role": "system", "content": system}
        conversation = add(conversation, found or node)
    for node in turns:
        copied: Node = {**node, "id": new_id(), "parent": conversation["leaf"]}
        for told in ("verdict", "wanted", "kept"):  # said of the other branch
            copied.pop(told, None)  # type: ignore[misc]
        conversation = add(conversation, copied)
    return conversation


def _is(node: Node, role: Role, content: str) -> bool:
    return (node["role"], node["content"]) == (role, content)


def again(conversation: Conversation, answer: str) -> Conversation:
    """Back at the question of an answer (or at a question without one), to be answered once more."""
    node = conversation["messages"][answer]
    return {**conversation, "leaf": node["parent"] if node["role"] == "assistant" else node["id"]}


def undo(conversation: Conversation) -> tuple[Conversation, str]:
    """Without the last question and its answer, which stay in the tree; and what was asked."""
    shown = branch(conversation)
    last = next((node for node in reversed(shown) if node["role"] == "user"), None)
    if last is None:
        return conversation, ""
    return {**conversation, "leaf": last["parent"]}, last["content"]


def versions(conversation: Conversation, message: str) -> list[str]:
    """The ids of what stands in the place of a message, in the order in which it came; a first question's are all first ones,
    whatever system prompt they have."""
    nodes = conversation["messages"]

    def place(node: Node) -> tuple[Role, str | None]:
        parent = None if node["parent"] is None else nodes[node["parent"]]
        return node["role"], None if parent is None or parent["role"] == "system" else parent["id"]

    here = place(nodes[message])
    return [node["id"] for node in nodes.values() if place(node) == here]


def switch(conversation: Conversation, message: str, step: Literal[-1, 1]) -> Conversation:
    """On the branch of the next or previous version of a message, at the newest of what followed it."""
    known = versions(conversation, message)
    at = known[(known.index(message) + step) % len(known)]
    followers = {node["parent"]: node["id"] for node in conversation["messages"].values()}  # the last one wins
    while at in followers:
        at = followers[at]
    return {**conversation, "leaf": at}


def prompt(conversation: Conversation) -> list[Message]:
    """What the assistant is asked: the branch shown."""
    return [Message(role=node["role"], content=node["content"]) for node in branch(conversation)]


def from_dialogue(dialogue: Dialogue) -> Conversation:
    """A conversation that goes on from a dialogue of a file."""
    found = new()
    for message in dialogue.messages:
        node: Node = {"id": new_id(), "parent": found["leaf"], "role": message.role, "content": message.content}
        found = add(found, node)
    name = dialogue.id if dialogue.id and not re.fullmatch(r"[0-9a-f]{32}", dialogue.id) else None
    return {**found, "name": name}
