"""The queue of dialogues to review: accepting, which puts a dialogue into the kept file, rejecting, and deleting a conversation.

What changes both the store and the kept file is first decided in the store, then done to the file, then noted as done in the
store. Each step is whole or not there at all, and can be done twice without harm; whoever comes next does what is missing. So
a crash at any moment loses nothing and doubles nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from assistant.dialogue import Dialogue, Message
from assistant.errors import ThousandError, validation_sentence
from assistant.lineage import releases_trained_on
from assistant.provenance import Provenance
from serve import kept
from serve.errors import ApiError
from serve.feedback import candidate_id, may
from serve.store import Candidate, Conversation, Store, now

ADDED = "Added from a file by somebody who may let it be used to train the assistant."
"""The consent of a dialogue that came from a file."""


@dataclass(frozen=True)
class Waiting:
    """A dialogue that waits for review."""

    id: str
    dialogue: Dialogue
    answered: str | None
    """What the release had answered, where the last answer is a person's own."""
    reason: str | None
    """What the person said of it."""


def queue(store: Store) -> list[Waiting]:
    """What waits, the oldest first."""
    if not store.exists:
        return []
    with kept.lock():
        _settle(store)
    with store.session() as session:
        rows = session.scalars(select(Candidate).where(Candidate.state == "waiting").order_by(Candidate.number)).all()
    return [Waiting(row.id, Dialogue.model_validate(row.dialogue), row.answered, row.reason) for row in rows]


def _candidate(session: Session, identifier: str) -> Candidate:
    """The dialogue, if it still waits. Raises ThousandError."""
    found = session.scalar(select(Candidate).where(Candidate.id == identifier))
    if found is None:
        raise ThousandError(
            f"The dialogue {identifier} is not in the queue any more: its conversation was deleted or corrected."
        )
    if found.state != "waiting":
        raise ThousandError(f"The dialogue {identifier} was already {found.state.replace('accepting', 'accepted')}.")
    return found


def _with_messages(dialogue: Dialogue, messages: Sequence[Message]) -> Dialogue:
    """The dialogue as a reviewer changed it. Raises ThousandError when it is none any more."""
    try:
        changed = Dialogue.model_validate({**dialogue.model_dump(), "messages": [m.model_dump() for m in messages]})
    except ValidationError as error:
        raise ThousandError(f"The changed dialogue cannot be kept: {validation_sentence(error)}.") from None
    if not changed.answers:
        raise ThousandError("The changed dialogue has no answer to learn from.")
    return changed


def accept(store: Store, identifier: str, *, reviewer: str, messages: Sequence[Message] | None = None) -> None:
    """Put a dialogue that waits into the kept file, once, with `messages` in place of its own where they are given.

    Raises ThousandError when it does not wait any more or the messages are no dialogue.
    """
    with kept.lock():
        _settle(store)
        with store.session() as session:
            row = _candidate(session, identifier)
            dialogue = Dialogue.model_validate(row.dialogue)
            edited = messages is not None and tuple(messages) != dialogue.messages
            if edited and messages is not None:
                dialogue = _with_messages(dialogue, messages)
            assert dialogue.provenance is not None
            reviewed = dialogue.provenance.model_copy(
                update={"reviewed": now(), "reviewer": reviewer, "edited": edited}
            )
            row.line = dialogue.model_copy(update={"provenance": reviewed}).model_dump_json(exclude_none=True)
            row.state = "accepting"
        _settle(store)


def reject(store: Store, identifier: str) -> None:
    """Take a dialogue out of the queue; the same will not be queued again. Raises ThousandError when it does not wait any more."""
    with store.session() as session:
        _candidate(session, identifier).state = "rejected"


def _settle(store: Store) -> None:
    """Do what was decided and is not done."""
    with store.session() as session:
        accepted = session.execute(
            select(Candidate.id, Candidate.line).where(Candidate.state == "accepting").order_by(Candidate.number)
        ).all()
        deleting = session.scalars(select(Conversation.id).where(Conversation.deleting)).all()
        gone = session.scalars(select(Candidate.id).where(Candidate.conversation_id.in_(deleting))).all()
    if accepted:
        kept.append({identifier: line for identifier, line in accepted if line is not None})
        with store.session() as session:
            done = [identifier for identifier, _ in accepted]
            session.execute(update(Candidate).where(Candidate.id.in_(done)).values(state="accepted"))
    if deleting:
        kept.remove(gone)
        with store.session() as session:
            session.execute(delete(Conversation).where(Conversation.id.in_(deleting)))
        store.forget_log()


class Deleted(TypedDict):
    """What was deleted with a conversation: how many dialogues from the queue and the kept file; and the releases that were
    trained on one of them, which still are."""

    conversation: str
    waiting: int
    kept: int
    releases: list[str]


def delete_conversation(store: Store, identifier: str, *, by: str | None) -> Deleted:
    """Delete a conversation with all that was said of it, from the store, the queue and the kept file.

    `by` is the name of the key that asks. Raises ApiError when there is none, or it is another's.
    """
    if not store.exists:
        raise _not_there(identifier)
    with kept.lock():
        _settle(store)
        with store.session() as session:
            found = session.get(Conversation, identifier)
            if found is None:
                raise _not_there(identifier)
            if not may(by, found.owner):
                raise ApiError(403, "This conversation was begun with another key.", code="not_yours")
            rows = session.execute(
                select(Candidate.id, Candidate.state).where(Candidate.conversation_id == identifier)
            ).all()
        accepted = [candidate for candidate, state in rows if state == "accepted"]
        releases = {name: None for candidate in accepted for name in releases_trained_on(candidate)}
        with store.session() as session:
            session.execute(update(Conversation).where(Conversation.id == identifier).values(deleting=True))
        _settle(store)
    return {
        "conversation": identifier,
        "waiting": sum(state == "waiting" for _, state in rows),
        "kept": len(accepted),
        "releases": list(releases),
    }


def _not_there(identifier: str) -> ApiError:
    return ApiError(404, f"There is no conversation {identifier} here.", code="conversation_not_found")


def enqueue(store: Store, dialogue: Dialogue, *, place: str, by: str) -> str | None:
    """Put a dialogue from a file into the queue; returns its id there, None where it is or was there already.

    `place` is its `file:line`, `by` who adds it. The credits of the texts that it was made from stay with it.
    """
    identifier = candidate_id(None, dialogue.messages)
    origin = dialogue.provenance or Provenance()
    provenance = Provenance(file=place, given=now(), by=by, consent=ADDED, works=origin.works, changes=origin.changes)
    queued = dialogue.model_copy(update={"id": identifier, "provenance": provenance})
    with store.session() as session:
        if session.scalar(select(Candidate.id).where(Candidate.id == identifier)) is not None:
            return None
        session.add(
            Candidate(id=identifier, dialogue=queued.model_dump(mode="json", exclude_none=True), state="waiting")
        )
    return identifier
