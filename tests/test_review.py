"""The queue: what is accepted is kept exactly once whatever happens, what is deleted is gone, and one key decides."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from assistant.dialogue import Message, read_dialogues
from assistant.errors import ThousandError
from assistant.lineage import write_lineage
from serve.feedback import Submission, submit
from serve.keys import Keys
from serve.review import accept, queue, reject
from serve.store import Store
from tests.feedback import CONVERSATION, submission
from tests.test_keys import ALICE, BOB, keys_file
from tests.told import KEY, told_app

OTHER = "e" * 32
THIRD = "d" * 32


def give(store: Store, by: str | None = None, **fields: Any) -> None:
    submit(store, Submission.model_validate(submission(**fields)), by=by)


def kept(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "kept.jsonl").read_text(encoding="utf-8").splitlines()]


def test_what_is_accepted_is_kept_with_its_provenance_and_can_be_trained_on(home: Path) -> None:
    store = Store()
    give(store, by="alice", wanted="Lamps.", consent=True)
    (item,) = queue(store)
    accept(store, item.id, reviewer="me")
    assert queue(store) == []
    (dialogue,) = read_dialogues([home / "kept.jsonl"])
    assert dialogue.id == item.id
    assert [message.content for message in dialogue.messages] == ["What do you sell?", "Lamps."]
    found = dialogue.provenance
    assert found is not None
    assert (found.conversation, found.by, found.reviewer) == (CONVERSATION, "alice", "me")
    assert (found.release, found.corrected, found.edited) == ("thousand-2", True, False)
    assert found.consent is not None
    assert (home / "kept.jsonl").stat().st_mode & 0o077 == 0
    with pytest.raises(ThousandError, match="already accepted"):
        accept(store, item.id, reviewer="me")
    give(store, wanted="Lamps.", consent=True)
    assert queue(store) == [], "the same again is not asked again"


def test_a_reviewer_may_change_a_dialogue_and_not_break_it(home: Path) -> None:
    store = Store()
    give(store, keep=True, consent=True)
    (item,) = queue(store)
    question, answer = item.dialogue.messages
    with pytest.raises(ThousandError, match="both from the user"):
        accept(store, item.id, reviewer="me", messages=[question, question])
    with pytest.raises(ThousandError, match="no answer"):
        accept(store, item.id, reviewer="me", messages=[question])
    accept(store, item.id, reviewer="me", messages=[question, Message(role="assistant", content="Lamps.")])
    (line,) = kept(home)
    assert line["messages"][-1]["content"] == "Lamps."
    assert line["provenance"]["edited"]
    assert answer.content not in (home / "kept.jsonl").read_text()


def test_a_line_of_the_kept_file_that_is_not_understood_stays(home: Path) -> None:
    home.mkdir()
    (home / "kept.jsonl").write_bytes(b'not json\r\n\xff\n{"id": 1}')
    store = Store()
    give(store, keep=True, consent=True)
    accept(store, queue(store)[0].id, reviewer="me")
    lines = (home / "kept.jsonl").read_bytes().split(b"\n")
    assert lines[:3] == [b"not json\r", b"\xff", b'{"id": 1}']
    assert len(lines) == 5


@pytest.mark.parametrize("work", ["accept", "delete", "submit"])
def test_a_kill_before_any_write_loses_nothing_and_doubles_nothing(home: Path, work: str) -> None:
    environment = {**os.environ, "THOUSAND_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed", work], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) > {"accept": 25, "delete": 25, "submit": 10}[work], "so many writes there are"
    assert [run["killed"] for run in runs] == [True] * (len(runs) - 1) + [False]
    outcomes = []
    for run in runs:
        assert run["lines"] in (run["settled"], ["mine"], runs[0]["lines"]), "never half of it"
        if run["settled"] not in outcomes:
            outcomes.append(run["settled"])
        states = run["states"]
        assert run["waiting"] == states.count("waiting")
        assert states.count("accepted") == len(run["settled"]) - 1, "what is accepted is kept, once"
        assert "accepting" not in states, "whoever looks next finishes it"
        if work == "delete":
            assert (CONVERSATION in run["conversations"]) == (len(run["settled"]) == 2)
        if work == "submit":
            there = THIRD in run["conversations"]
            assert (run["opinions"], len(states)) == ((3, 3) if there else (2, 2)), "all of it or nothing"
    assert len(outcomes) == {"accept": 2, "delete": 2, "submit": 1}[work]
    assert runs[-1]["settled"] == outcomes[-1]


def test_a_deleted_conversation_is_nowhere_any_more_and_the_releases_are_named(home: Path, registry: Path) -> None:
    store = Store()
    give(store, keep=True, consent=True, reason="a secret reason")
    give(store, conversation=OTHER, wanted="Lamps.", consent=True)
    mine, other = queue(store)
    accept(store, mine.id, reviewer="me")
    accept(store, other.id, reviewer="me")
    write_lineage(registry / "second", read_dialogues([home / "kept.jsonl"]))
    give(store, message="q", wanted="A second thought.", consent=True)
    with told_app() as told:
        answer = told.client.delete(f"/v1/conversations/{CONVERSATION}")
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"conversation": CONVERSATION, "waiting": 1, "kept": 1, "releases": ["second"]}
        assert told.client.delete(f"/v1/conversations/{CONVERSATION}").status_code == 404
        assert told.client.delete("/v1/conversations/mine").status_code == 400
    assert [line["id"] for line in kept(home)] == [other.id]
    assert queue(store) == []
    store.close()
    left = b"".join(file.read_bytes() for file in home.glob("*") if file.is_file())
    assert b"a secret reason" not in left
    assert b"A second thought" not in left
    assert b"Lamps." in left


def test_only_who_gave_a_conversation_may_delete_it(home: Path, tmp_path: Path) -> None:
    keys = Keys(SecretStr(KEY), keys_file(tmp_path, f"alice {ALICE}", f"bob {BOB}"))
    give(Store(), by="alice")
    give(Store(), by="alice", conversation=OTHER)
    with told_app(keys=keys) as told:

        def delete(conversation: str, key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return told.client.delete(f"/v1/conversations/{conversation}", headers=headers).status_code

        assert told.client.delete(f"/v1/conversations/{OTHER}").status_code == 401
        assert [delete(OTHER, key) for key in (BOB, ALICE, ALICE)] == [403, 200, 404]
        assert delete(CONVERSATION, KEY) == 200


def test_what_was_rejected_does_not_come_again(home: Path) -> None:
    store = Store()
    give(store, keep=True, consent=True)
    (item,) = queue(store)
    reject(store, item.id)
    give(store, keep=True, consent=True)
    assert queue(store) == []
    with pytest.raises(ThousandError, match="already rejected"):
        accept(store, item.id, reviewer="me")
    assert not (home / "kept.jsonl").exists()
