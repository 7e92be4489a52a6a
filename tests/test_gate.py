"""What every dialogue is looked at with before it is learnt from; `thousand data add` and `thousand data review` over it."""

import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.dialogue import read_dialogues
from serve.feedback import Submission, submit
from serve.review import queue
from serve.store import Store
from tests.conftest import Command
from tests.feedback import submission
from train.data.personal import personal
from train.recipe import preset


def line(prompt: str, answer: str, **more: Any) -> str:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages, **more}) + "\n"


COPIED = "Which seven rivers did the old cartographer draw in blue ink?"
CLEAN = line(
    "How do I sharpen a kitchen knife at home?", "Draw it over a wet stone at a flat angle, both sides in turn."
)


@pytest.fixture(autouse=True)
def bundle(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small set in place of the one that comes along: a training file and a test set."""
    place = tmp_path / "dialogues"
    place.mkdir()
    (place / "general.jsonl").write_text(
        line("How can I keep a kitchen knife sharp?", "Use a wooden board, and hone it often.", id="g-1")
        + line("Who wrote the first almanac of the moon?", "Nobody knows for certain.", id="g-2")
    )
    (place / "test.jsonl").write_text(line(COPIED, "None of them; the map was red.", id="t-1"))
    monkeypatch.setattr("train.data.gate.bundled", lambda name: place)
    yield place


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to ada@lovelace.co.uk please", "e-mail address"),
        ("I am at +49 30 901820", "telephone number"),
        ("my number is (212) 736-5000", "telephone number"),
        ("Tel.030.901820", "telephone number"),
        ("0711.123456 is in Stuttgart", "telephone number"),
        ("call US 2127365000", "telephone number"),
        ("the patent office: 212-736-5000", "telephone number"),
        ("patent no. 7123456, or call 212-736-5000", "telephone number"),
        ("ISBN 0521879965 030 901820", "telephone number"),
        ("arXiv: 212-736-5000", "telephone number"),
        ("charge 4111 1111 1111 1111", "card number"),
        ("3782-822463-10005", "card number"),
        ("the key is sk-abcdefghijklmnopqrst12", "key or password"),
        ("AKIAIOSFODNN7EXAMPLE", "key or password"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "key or password"),
        ("my password is hunter2hunter", "key or password"),
    ],
)
def test_personal_data_is_found(text: str, kind: str) -> None:
    assert [found.kind for found in personal(text)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112 fails the sum",
        "somebody@example.com is nobody",
        "pi is 3.14159265358979, and 1,000,000,000 people know",
        "from 2024-01-02 to 2025-03-04, in the year 1641, for 3.60 / 0.75",
        "the mask is 255.255.252.0",
        "choose a password with twelve characters",
        "arXiv:1801.00862 and arXiv:0811.3171v2; see 0811.3171, cond-mat/0703002 and Zbl 0374.46055",
        "doi:10.1103/PhysRevLett.119.180501, https://doi.org/10.1016/j.physa.2012.0171234567, PhysRevA.71.022316",
        "ISBN 0-201-89683-4, ISBN 0521879965, ISBN-13: 978-0-201-89683-1",
        "US patent no. 7123456789, patent DE 0301234567, EP 0301234567 B1",
        "Prob 0: 0.8535533, and -0.84245754+0.j",
    ],
)
def test_what_is_nobodys_is_not_warned_of(text: str) -> None:
    assert personal(text) == []


def test_a_file_goes_through_the_gate_and_nothing_of_it_is_lost(thousand: Command, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"  # a name that is a held-out set's elsewhere
    own = line("What does Brightlamp sell?", "Lamps, and nothing but lamps.", id="mine", topic="shop")
    alpaca = json.dumps({"instruction": "Name a colour of the sea.", "output": "Green, on a cloudy day."}) + "\n"
    bad = [
        line(COPIED, "All seven, of course."),
        line("Where can I reach Ada about the boat?", "Write to ada@lovelace.org and ask."),
        line("Is this good?", "Great question! It is good."),
        "not json\n",
        line("What?", " "),
        json.dumps({"messages": [{"role": "user", "content": "Nobody answered me."}]}) + "\n",
    ]
    file.write_text("".join([own, alpaca, *bad]), encoding="utf-8")
    before = file.read_bytes()
    added = thousand("data", "add", file, "--accept")
    assert added.code == 1, added.err
    for place, what in [
        (3, "also in a held-out set: its prompt says the same as that of test.jsonl:1"),
        (4, "e-mail address: ada@lovelace.org"),
        (5, "banned-opening"),
        (6, "not JSON"),
        (7, "messages[1].content: is empty"),
        (8, "has no answer"),
    ]:
        assert any(found.startswith(f"{file}:{place}: ") and what in found for found in added.out.splitlines()), (
            what,
            added.out,
        )
    assert "2 accepted, 3 wait for review, 0 were there already, 3 lines could not be read" in added.out
    assert file.read_bytes() == before
    dialogues = read_dialogues([home / "kept.jsonl"])
    assert [dialogue.answers for dialogue in dialogues] == [
        ["Lamps, and nothing but lamps."],
        ["Green, on a cloudy day."],
    ]
    assert dialogues[0].topic == "shop"
    assert dialogues[0].provenance is not None
    assert dialogues[0].provenance.file == "test.jsonl:1"
    assert [item.dialogue.messages[0].content for item in queue(Store())] == [
        json.loads(each)["messages"][0]["content"] for each in bad[:3]
    ]
    again = thousand("data", "add", file, "--accept")
    assert "0 accepted, 0 wait for review, 5 were there already, 3 lines" in again.out
    assert len(read_dialogues([home / "kept.jsonl"])) == 2


def test_a_file_without_fault_waits_unless_it_is_to_be_accepted(thousand: Command, home: Path, tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text(CLEAN)
    added = thousand("data", "add", tmp_path / "good.jsonl")
    assert (added.code, "0 accepted, 1 wait" in added.out) == (0, True)
    assert "thousand data review" in added.out
    assert not (home / "kept.jsonl").exists()
    assert thousand("data", "add", tmp_path / "none.jsonl").code == 1
    assert "any format" in thousand("data", "add", "--help").out


def test_the_credits_of_a_text_by_others_stay_with_it(
    thousand: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = {"url": "https://garden.example/a/1", "author": "Bob & Co", "license": "CC-BY-SA-4.0"}
    value = json.loads(CLEAN) | {"license": "CC-BY-SA-4.0", "provenance": {"works": [work], "changes": "links removed"}}
    (tmp_path / "selected.jsonl").write_text(json.dumps(value))
    assert thousand("data", "add", tmp_path / "selected.jsonl").code == 0
    typed(monkeypatch, "a")
    assert "text by Bob & Co under CC-BY-SA-4.0 at https://garden.example/a/1" in thousand("data", "review").out
    (dialogue,) = read_dialogues([home / "kept.jsonl"])
    assert dialogue.license == "CC-BY-SA-4.0"
    assert dialogue.provenance is not None
    assert dialogue.provenance.file == "selected.jsonl:1"
    assert dialogue.provenance.model_dump(include={"works", "changes"}, exclude_none=True) == {
        "works": (work,),
        "changes": "links removed",
    }
    assert preset("laptop").repeats(dialogue) == 1, "only what is few is shown several times"


def typed(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(keys))


def fill(*wanted: str) -> None:
    for number, answer in enumerate(wanted):
        body = submission(conversation=f"{number:032x}", wanted=answer, reason="Wrong.", consent=True)
        submit(Store(), Submission.model_validate(body), by=None)


def test_one_key_decides(thousand: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill("Lamps, made by hand.", "Write to ada@lovelace.org about it.", "Only chairs, and one table.", "\x1b[2JBooks.")
    typed(monkeypatch, "aXrsq")
    shown = thousand("data", "review").out
    assert "1 of 4" in shown
    assert "the assistant had answered" in shown
    assert "the person says: Wrong." in shown
    assert "personal data? e-mail address: ada@lovelace.org" in shown
    assert "similar, general.jsonl:" in shown
    assert "\x1b[2J" not in shown, "what strangers wrote steers no terminal"
    assert "1 accepted" in shown
    assert "1 rejected, 2 still wait" in shown
    assert [dialogue.answers for dialogue in read_dialogues([home / "kept.jsonl"])] == [["Lamps, made by hand."]]
    typed(monkeypatch, "")
    assert "1 of 2" in thousand("data", "review").out, "what was skipped comes again; no more keys is the end"
    typed(monkeypatch, "rr")
    assert "0 still wait" in thousand("data", "review").out
    assert "Nothing waits" in thousand("data", "review").out


def test_an_answer_is_edited_in_the_persons_editor(
    thousand: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("Lumps, mail ada@lovelace.org.")
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/Lumps.*/Lamps.\\n\\n- big/' \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    typed(monkeypatch, "ea")
    shown = thousand("data", "review").out
    assert shown.count("personal data?") == 1, "what is changed is looked at again"
    (dialogue,) = read_dialogues([home / "kept.jsonl"])
    assert dialogue.answers == ["Lamps.\n\n- big"]
    assert dialogue.provenance is not None
    assert dialogue.provenance.edited
    fill("x", "Chairs.")
    monkeypatch.setenv("EDITOR", str(tmp_path / "none"))
    typed(monkeypatch, "eq")
    assert "did not run" in thousand("data", "review").out


def test_a_key_at_a_terminal_needs_no_enter(thousand: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill("Lamps, made by hand.", "Chairs.")
    ours, theirs = os.openpty()
    over = threading.Event()

    def press(keyboard: Any) -> None:
        while not over.wait(0.05):  # what is typed before the terminal is asked is thrown away
            keyboard.write(b"a")

    with os.fdopen(ours, "wb", buffering=0) as keyboard, os.fdopen(theirs, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        finger = threading.Thread(target=press, args=(keyboard,))
        finger.start()
        try:
            assert "2 accepted" in thousand("data", "review").out
        finally:
            over.set()
            finger.join()
