"""Which dialogues a release was trained on."""

import json
from pathlib import Path

import pytest

from assistant.dialogue import Dialogue, Message, read_dialogues
from assistant.errors import ThousandError
from assistant.lineage import DIALOGUES, fingerprint, learnt, read_lineage, releases_trained_on, write_lineage
from assistant.settings import bundled


def dialogue(answer: str, **fields: str) -> Dialogue:
    return Dialogue(
        messages=(Message(role="user", content="Why?"), Message(role="assistant", content=answer)), **fields
    )


def test_a_dialogue_is_known_by_what_is_said_in_it() -> None:
    assert fingerprint(dialogue("So.")) == fingerprint(dialogue("So.", id="a", source="somewhere", license="CC0-1.0"))
    assert len({fingerprint(dialogue(text)) for text in ("So.", "So. ", "so.", "Só.")}) == 4
    system = Dialogue(messages=(Message(role="system", content="Be brief."), *dialogue("So.").messages))
    assert fingerprint(system) != fingerprint(dialogue("So."))
    moved = Dialogue(messages=(Message(role="user", content="Why?So."), Message(role="assistant", content="x")))
    assert fingerprint(moved) != fingerprint(dialogue("x"))


def test_the_releases_trained_on_a_dialogue_are_found_by_what_it_says_and_by_its_id(registry: Path) -> None:
    kept = dialogue("So it is.", id="kept-0123456789abcdef")
    edited = dialogue("So it was.", id=kept.id or "")
    strange = dialogue("An id of two\nlines", id="tab\tand\nline é")
    write_lineage(registry / "first", [dialogue("Without an id."), kept])
    write_lineage(registry / "second", [edited, strange])
    assert read_lineage("first") == [learnt(dialogue("Without an id.")), learnt(kept)]
    assert releases_trained_on(fingerprint(kept)) == ["first"]
    assert releases_trained_on("kept-0123456789abcdef") == ["first", "second"]
    assert releases_trained_on("tab\tand\nline é") == ["second"]
    assert releases_trained_on(fingerprint(dialogue("Never said."))) == []
    assert read_lineage("third") is None, "nobody knows what an old release was trained on"
    (registry / "third" / DIALOGUES).write_text(f"{fingerprint(kept)}\tkept-")
    with pytest.raises(ThousandError, match=r"dialogues\.txt is damaged"):
        read_lineage("third")


def test_the_release_that_comes_along_names_the_dialogues_that_come_along(real_home: Path) -> None:
    (name,) = {file.parent.name for file in bundled("releases").glob(f"*/{DIALOGUES}")}
    record = json.loads((bundled("releases") / name / "release.json").read_text())
    known = read_lineage(name)
    assert known == [learnt(dialogue) for dialogue in read_dialogues([bundled("dialogues")])]
    assert known is not None
    assert len(known) == sum(file["dialogues"] for file in record["data"])
