"""Feedback over HTTP: what is taken, what is refused, and that the server's limits hold for it too."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from serve.feedback import MOST_MESSAGES
from serve.keys import Keys
from serve.store import Candidate, Opinion, Said, Store
from tests.feedback import ANSWER, CONVERSATION, QUESTION, RETRY, said, submission
from tests.test_keys import ALICE, BOB, keys_file
from tests.told import KEY, Told, ToldEngine, told_app

OTHER = "f" * 32


def give(told: Told, key: str | None = None, **fields: Any) -> tuple[int, Any]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    response = told.client.post("/v1/feedback", json=submission(**fields), headers=headers)
    return response.status_code, response.json()


def rows(table: Any) -> list[Any]:
    store = Store()
    with store.session() as session:
        found = list(session.scalars(select(table)))
    store.close()
    return found


def test_a_like_is_stored_with_its_conversation_and_nothing_before_it(home: Path) -> None:
    with told_app(ToldEngine(end_after=2)) as told:
        assert told.ask(max_tokens=2).status_code == 200
        assert not (home / "feedback.sqlite3").exists(), "nothing is stored before somebody says something"
        status, answer = give(told, verdict="like")
        assert status == 200
        assert answer == {"id": answer["id"], "conversation": CONVERSATION, "queued": False}
    assert [(row.verdict, row.message, row.consent) for row in rows(Opinion)] == [("like", "a", False)]
    question, answer = sorted(rows(Said), key=lambda row: row.parent or "")
    assert (question.id, question.parent, question.content) == ("q", None, "What do you sell?")
    assert (answer.id, answer.parent, answer.content) == ("a", "q", "Shoes.")
    assert answer.sampling == {"temperature": 0.7, "seed": 0}
    assert (home / "feedback.sqlite3").stat().st_mode & 0o077 == 0, "for its owner only"


def test_a_conversation_is_a_tree_that_grows(home: Path) -> None:
    more = said("r", "b", "user", "In red?")
    with told_app() as told:
        assert give(told)[0] == 200
        assert give(told, messages=[QUESTION, ANSWER, RETRY, more], message="b", verdict="like")[0] == 200
        assert give(told, messages=[], message="r", reason="never answered")[0] == 200
    assert {row.id: row.parent for row in rows(Said)} == {"q": None, "a": "q", "b": "q", "r": "b"}


def test_the_answer_that_was_wanted_waits_for_review_in_place_of_the_one_before(home: Path) -> None:
    with told_app() as told:
        assert give(told, verdict="dislike", wanted=" Lamps. ", consent=True)[1]["queued"]
        assert give(told, verdict="dislike", wanted="Lamps, only lamps.", reason="wrong", consent=True)[1]["queued"]
        assert give(told, messages=[RETRY], message="b", keep=True, consent=True)[1]["queued"]
        assert give(told, message="q", wanted="Just lamps.", consent=True)[1]["queued"], "to a question without answer"
    first, second, third = rows(Candidate)
    assert [m["content"] for m in first.dialogue["messages"]] == ["What do you sell?", "Lamps, only lamps."]
    assert (first.answered, first.reason) == ("Shoes.", "wrong")
    assert first.dialogue["provenance"]["corrected"]
    assert first.dialogue["provenance"]["release"] == "thousand-2"
    assert "train" in first.dialogue["provenance"]["consent"]
    assert [m["content"] for m in second.dialogue["messages"]] == ["What do you sell?", "Boots and shoes."]
    assert not second.dialogue["provenance"]["corrected"]
    assert third.dialogue["messages"][-1] == {"role": "assistant", "content": "Just lamps."}


def test_the_same_again_doubles_nothing(home: Path) -> None:
    with told_app() as told:
        answers = [give(told, verdict="like", keep=True, consent=True)[1] for _ in range(3)]
    assert [answer["queued"] for answer in answers] == [True] * 3
    assert len({answer["id"] for answer in answers}) == 1
    assert [len(rows(table)) for table in (Said, Opinion, Candidate)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("fields", "status", "code", "what"),
    [
        ({"keep": True}, 400, "invalid_value", "consent: must be true"),
        ({"wanted": "Lamps.", "consent": False}, 400, "invalid_value", "consent: must be true"),
        ({"verdict": None}, 400, "invalid_value", "says nothing"),
        ({"verdict": "meh"}, 400, "invalid_value", "'like' or 'dislike'"),
        ({"wanted": " ", "consent": True}, 400, "invalid_value", "wanted: is empty"),
        ({"verdict": "like", "conversation": "mine"}, 400, "invalid_value", "conversation.id"),
        ({"verdict": "like", "verdct": "like"}, 400, "unknown_parameter", "did you mean verdict?"),
        ({"message": "z"}, 404, "message_not_found", "there is no message z"),
        ({"messages": [ANSWER, QUESTION]}, 404, "message_not_found", "there is no message q before it"),
        ({"messages": [QUESTION, {**QUESTION, "id": "a", "parent": "q"}]}, 409, "turns_out_of_order", "take turns"),
        ({"messages": [{**ANSWER, "parent": None}]}, 409, "turns_out_of_order", "take turns"),
        ({"messages": [QUESTION, ANSWER, {**QUESTION, "content": "?"}]}, 409, "message_changed", "sent before"),
        ({"messages": [QUESTION], "message": "q", "keep": True, "consent": True}, 409, "no_answer", "no answer yet"),
    ],
)
def test_what_does_not_fit_is_refused_whole(
    home: Path, fields: dict[str, Any], status: int, code: str, what: str
) -> None:
    with told_app() as told:
        found, body = give(told, **fields)
        assert found == status, body
        assert body["error"]["code"] == code
        assert what in body["error"]["message"]
    assert [rows(table) for table in (Said, Opinion, Candidate)] == [[], [], []]


def test_a_conversation_has_a_bound(home: Path) -> None:
    def batch(start: int) -> list[dict[str, Any]]:
        return [QUESTION] + [said(f"a{number}", "q", "assistant", "x") for number in range(start, start + 499)]

    with told_app() as told:
        for start in range(0, MOST_MESSAGES - 499, 499):
            assert give(told, messages=batch(start), message="q", reason="long")[0] == 200
        status, body = give(told, messages=batch(MOST_MESSAGES), message="q", reason="long")
        assert (status, body["error"]["code"]) == (409, "conversation_full")


def test_a_conversation_is_its_keys(home: Path, tmp_path: Path) -> None:
    keys = Keys(SecretStr(KEY), keys_file(tmp_path, f"alice {ALICE}", f"bob {BOB}"))
    with told_app(keys=keys) as told:
        assert give(told)[0] == 401
        assert give(told, key=ALICE)[0] == 200
        assert give(told, key=BOB)[1]["error"]["code"] == "not_yours"
        assert give(told, key=BOB, conversation=OTHER)[0] == 200
        assert give(told, key=KEY)[0] == 200
    assert [row.given_by for row in rows(Opinion)] == ["alice", "bob", "default"]


def test_the_limits_of_the_server_hold_for_feedback(home: Path) -> None:
    with told_app(requests_per_minute=3) as told:
        client = told.client
        plain = client.post("/v1/feedback", content=b"{}", headers={"Content-Type": "text/plain"})
        assert plain.status_code == 415
        assert client.post("/v1/feedback", json=submission(reason="x" * 100_001)).status_code == 400
        assert client.post("/v1/feedback", json=submission(), headers={"Host": "evil.example"}).status_code == 400
        foreign = client.post("/v1/feedback", json=submission(), headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403
        twice = b'{"message": "a", "message": "b"}'
        assert (
            client.post("/v1/feedback", content=twice, headers={"Content-Type": "application/json"}).status_code == 400
        )
        assert [give(told)[0] for _ in range(4)][-1] == 429


def test_a_store_that_cannot_be_used_is_told_and_the_chat_goes_on(home: Path) -> None:
    home.mkdir()
    (home / "feedback.sqlite3").write_text("this is no database, but somebody's notes " * 100)
    with told_app(ToldEngine(end_after=2)) as told:
        status, body = give(told)
        assert (status, body["error"]["code"]) == (503, "store_unavailable")
        assert "feedback.sqlite3" in body["error"]["message"]
        assert told.ask(max_tokens=2).status_code == 200
