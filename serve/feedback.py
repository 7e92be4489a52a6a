"""What people say of answers: the types on the wire, and how it comes into the store and, where it is to be learnt from, into
the queue of dialogues to review."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from assistant.dialogue import Dialogue, Message, Role, said
from assistant.provenance import Provenance
from assistant.sampling import MOST_STOPS, MaxTokens, RepetitionPenalty, Seed, Stop, Temperature, TopP
from serve.body import WHOLE, Part
from serve.errors import ApiError
from serve.keys import OWN
from serve.store import Candidate, Conversation, Opinion, Said, Store, now
from serve.wire import SAYS_SOMETHING

MOST_MESSAGES = 1000
"""Of one conversation, all its branches together."""
LONGEST_TEXT = 100_000
"""Characters of a reason, or of the answer that was wanted."""

CONSENT = "This conversation may be kept on this machine and used to train the assistant."
"""What `consent` says yes to; it stands in the provenance of each kept dialogue."""

_NOTHING = "says nothing: give a verdict, a reason, the answer wanted, or keep"
_NO_CONSENT = "consent: must be true where an answer is wanted or the conversation is to be kept"

ConversationId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="Made by the client, at random.")]
MessageId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Text = Annotated[
    str,
    Field(max_length=LONGEST_TEXT),
    AfterValidator(said),
    WithJsonSchema({**SAYS_SOMETHING, "maxLength": LONGEST_TEXT}),
]


class UsedSampling(Part):
    """The settings an answer was drawn with, as far as the client knows them."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    max_tokens: Annotated[MaxTokens, WHOLE] | None = None
    stop: Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    seed: Annotated[Seed, WHOLE] | None = None


class TreeMessage(Part):
    """A message of a conversation; edits and retries have the same parent."""

    id: MessageId
    parent: MessageId | None = Field(None, description="The message before it: sent before, or earlier in this list.")
    role: Role
    content: Annotated[str, AfterValidator(said), WithJsonSchema(SAYS_SOMETHING)]
    release: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] | None = None
    sampling: UsedSampling | None = None


class Tree(Part):
    """A conversation, or what is new of it."""

    id: ConversationId
    messages: list[TreeMessage] = Field(max_length=500)


def _one_of(**properties: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema: at least one of these properties is there, and such."""
    return {"anyOf": [{"required": [name], "properties": {name: such}} for name, such in properties.items()]}


class Submission(Part):
    """The body of `POST /v1/feedback`: a conversation, and what a person says of one of its messages."""

    model_config = ConfigDict(
        json_schema_extra={
            "additionalProperties": {"type": "null"},
            "allOf": [
                _one_of(
                    verdict={"type": "string"},
                    reason={"type": "string"},
                    wanted={"type": "string"},
                    keep={"const": True},
                ),
                {
                    "anyOf": [
                        {"required": ["consent"], "properties": {"consent": {"const": True}}},
                        {"properties": {"wanted": {"type": "null"}, "keep": {"enum": [False, None]}}},
                    ]
                },
            ],
        }
    )

    conversation: Tree
    message: MessageId = Field(description="The answer that is meant, or the last message of the branch that is.")
    verdict: Literal["like", "dislike"] | None = None
    reason: Text | None = None
    wanted: Text | None = Field(None, description="The answer that was wanted in place of this one.")
    keep: bool | None = Field(None, description="Whether the branch up to the message is to be learnt from.")
    consent: bool | None = Field(None, description=CONSENT)

    @model_validator(mode="after")
    def _says_something_with_consent(self) -> "Submission":
        if self.verdict is None and self.reason is None and not self.learnt_from:
            raise ValueError(_NOTHING)
        if self.learnt_from and not self.consent:
            raise ValueError(_NO_CONSENT)
        return self

    @property
    def learnt_from(self) -> bool:
        """Whether a dialogue comes of it."""
        return self.wanted is not None or bool(self.keep)


class Accepted(TypedDict):
    """The answer to it. `queued`: whether a dialogue of it waits for review now."""

    id: str
    conversation: str
    queued: bool


def may(by: str | None, owner: str | None) -> bool:
    """Whether somebody may change what another gave: everybody where no key is asked for, else its giver and THOUSAND_API_KEY."""
    return by in (None, OWN, owner)


def candidate_id(conversation: str | None, messages: Sequence[Message]) -> str:
    """What a dialogue is called in the queue and in the kept file: the same for the same dialogue of the same conversation."""
    return f"kept-{_digest(conversation, [[message.role, message.content] for message in messages])[:16]}"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def _conversation(session: Session, identifier: str, by: str | None) -> Conversation:
    """The conversation, made where there is none. Raises ApiError when it is another's or being deleted."""
    found = session.get(Conversation, identifier)
    if found is None:
        found = Conversation(id=identifier, created=now(), owner=by, deleting=False)
        session.add(found)
    elif found.deleting:
        raise ApiError(409, "This conversation is being deleted; send it again in a moment.", code="deleting")
    elif not may(by, found.owner):
        raise ApiError(403, "This conversation was begun with another key.", code="not_yours")
    return found


def _follows(role: Role, parent: Said | None) -> bool:
    """Whether a message may stand there: a system message first, then the user and the assistant in turn."""
    if parent is None:
        return role != "assistant"
    return role == ("assistant" if parent.role == "user" else "user")


def _grow(tree: dict[str, Said], conversation: Conversation, new: Sequence[TreeMessage]) -> None:
    """Put what is new into the tree. Raises ApiError where it does not fit."""
    for number, message in enumerate(new):
        place = f"conversation.messages[{number}]"
        sampling = None if message.sampling is None else message.sampling.model_dump(exclude_none=True)
        known = tree.get(message.id)
        if known is not None:
            if (known.parent, known.role, known.content) != (message.parent, message.role, message.content):
                text = f"{place}: the message {message.id} was sent before with another parent, role or content"
                raise ApiError(409, text, parameter=f"{place}.id", code="message_changed")
            continue
        if message.parent is not None and message.parent not in tree:
            text = f"{place}.parent: there is no message {message.parent} before it"
            raise ApiError(404, text, parameter=f"{place}.parent", code="message_not_found")
        parent = None if message.parent is None else tree[message.parent]
        if not _follows(message.role, parent):
            text = f"{place}.role: no {message.role} message can stand there; user and assistant take turns"
            raise ApiError(409, text, parameter=f"{place}.role", code="turns_out_of_order")
        added = Said(
            id=message.id,
            parent=message.parent,
            role=message.role,
            content=message.content,
            release=message.release,
            sampling=sampling,
        )
        conversation.messages.append(added)
        tree[message.id] = added
    if len(tree) > MOST_MESSAGES:
        text = f"The conversation has {len(tree)} messages; {MOST_MESSAGES} are kept. Begin a new one."
        raise ApiError(409, text, parameter="conversation.messages", code="conversation_full")


def _branch(tree: dict[str, Said], last: str) -> list[Said]:
    """The messages from the first to one."""
    branch: list[Said] = []
    at: str | None = last
    while at is not None:
        branch.append(tree[at])
        at = tree[at].parent
    return branch[::-1]


def _dialogue(submission: Submission, branch: list[Said], provenance: Provenance) -> Dialogue:
    """The dialogue that is to be learnt from: it ends on an answer, the one that was wanted if there is one. Raises ApiError."""
    turns = [Message(role=message.role, content=message.content) for message in branch]
    if submission.wanted is not None:
        if turns[-1].role == "assistant":
            turns.pop()
        if turns[-1].role == "user":
            turns.append(Message(role="assistant", content=submission.wanted.strip()))
    elif turns[-1].role == "user":
        turns.pop()
    if not turns or turns[-1].role != "assistant":
        raise ApiError(409, "message: there is no answer yet to learn from", parameter="message", code="no_answer")
    identifier = candidate_id(submission.conversation.id, turns)
    return Dialogue(id=identifier, messages=tuple(turns), provenance=provenance)


def _queue(session: Session, submission: Submission, branch: list[Said], by: str | None, given: str) -> bool:
    """Put the dialogue into the queue; whether it waits there. What waited for the same message gives way to it."""
    conversation, answer = submission.conversation.id, branch[-1]
    provenance = Provenance(
        conversation=conversation,
        release=next((message.release for message in reversed(branch) if message.role == "assistant"), None),
        corrected=submission.wanted is not None,
        given=given,
        by=by,
        consent=CONSENT,
    )
    dialogue = _dialogue(submission, branch, provenance)
    known = session.scalar(select(Candidate).where(Candidate.id == dialogue.id))
    if known is not None:
        return known.state == "waiting"
    session.execute(
        delete(Candidate).where(
            Candidate.conversation_id == conversation, Candidate.message == answer.id, Candidate.state == "waiting"
        )
    )
    corrected = submission.wanted is not None and answer.role == "assistant"
    session.add(
        Candidate(
            id=dialogue.id or "",
            conversation_id=conversation,
            message=answer.id,
            dialogue=dialogue.model_dump(mode="json", exclude_none=True),
            answered=answer.content if corrected else None,
            reason=submission.reason,
            state="waiting",
        )
    )
    return True


def submit(store: Store, submission: Submission, *, by: str | None) -> Accepted:
    """Store what somebody says, with the conversation it is about; `by` is the name of the key it came with.

    The same again changes nothing. Raises ApiError, and stores nothing, when it does not fit what is stored; StoreError when
    the store cannot be used. It waits for the disk: call it in a thread.
    """
    given = now()
    with store.session() as session:
        conversation = _conversation(session, submission.conversation.id, by)
        tree = {message.id: message for message in conversation.messages}
        _grow(tree, conversation, submission.conversation.messages)
        if submission.message not in tree:
            text = f"message: there is no message {submission.message} in this conversation"
            raise ApiError(404, text, parameter="message", code="message_not_found")
        opinion = _opinion(submission, by, given)
        session.flush()
        session.execute(delete(Opinion).where(Opinion.id == opinion.id))  # the same again counts as the last one
        session.add(opinion)
        branch = _branch(tree, submission.message)
        queued = submission.learnt_from and _queue(session, submission, branch, by, given)
        return {"id": opinion.id, "conversation": conversation.id, "queued": queued}


def _opinion(submission: Submission, by: str | None, given: str) -> Opinion:
    said_of_it: dict[str, Any] = {
        "conversation_id": submission.conversation.id,
        "message": submission.message,
        "verdict": submission.verdict,
        "reason": submission.reason,
        "wanted": submission.wanted,
        "keep": bool(submission.keep),
        "consent": bool(submission.consent),
        "given_by": by,
    }
    return Opinion(id=_digest(said_of_it)[:32], given=given, **said_of_it)
