"""Reading dialogues: every bad line is reported, all at once, and nothing is skipped silently."""

import json
from pathlib import Path

import pytest

from assistant.dialogue import Dialogue, Message, read_dialogues
from assistant.errors import BadData
from assistant.jsonl import write_records

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}


def line(**changes: object) -> str:
    return json.dumps({**GOOD, **changes})


def problems_of(file: Path) -> list[str]:
    with pytest.raises(BadData) as caught:
        read_dialogues([file])
    return caught.value.problems


def test_every_bad_line_is_reported_at_once_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    file.write_bytes(
        b"\n".join(
            [
                line().encode(),
                b'{"messages": [',
                line(messages=[{"role": "robot", "content": "x"}]).encode(),
                line(messages=[{"role": "user", "content": "  "}]).encode(),
                line(messages=[user, user]).encode(),
                line(messages=[assistant]).encode(),
                line(messages=[user, {"role": "system", "content": "late"}]).encode(),
                line(colour="red").encode(),
                line(messages=[]).encode(),
                b"[1, 2]",
                b'{"messages": "\xff"}',
                line(checks={"max_word": 3}).encode(),
                line(checks={"regex": "("}).encode(),
            ]
        )
    )
    problems = problems_of(file)
    expected = [
        (2, "not JSON"),
        (3, "robot"),
        (4, "messages[0].content: is empty"),
        (5, "messages 1 and 2 are both from the user"),
        (6, "begins with a user turn"),
        (7, "only the first message may be one"),
        (8, "colour: unknown field"),
        (9, "there is no user turn"),
        (10, "JSON list"),
        (11, "not UTF-8"),
        (12, "checks.max_word: unknown field"),
        (13, "not a regular expression"),
    ]
    assert len(problems) == len(expected)
    for problem, (number, text) in zip(problems, expected, strict=True):
        assert problem.startswith(f"{file}:{number}: ")
        assert text in problem


def test_a_key_that_stands_twice_and_a_number_that_is_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"id": "a", "id": "b", "messages": []}\n{"messages": NaN}\n')
    assert [problem.split(": ", 1)[1] for problem in problems_of(file)] == [
        "not JSON: the key 'id' stands twice in one object",
        "not JSON: NaN is no JSON value",
    ]


def test_a_byte_order_mark_and_mixed_line_ends_are_read(tmp_path: Path) -> None:
    file = tmp_path / "windows.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + line().encode() + b"\r\n\r\n" + line().encode() + b"\n" + line().encode())
    assert [dialogue.where.rpartition(":")[2] for dialogue in read_dialogues([file])] == ["1", "3", "4"]


def test_an_id_used_twice_names_both_places(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text(line(id="x") + "\n")
    second.write_text(line(id="y") + "\n" + line(id="x") + "\n")
    with pytest.raises(BadData) as caught:
        read_dialogues([first, second])
    assert caught.value.problems == [f"{second}:2: id 'x' is already used at {first}:1"]


def test_missing_empty_and_held_out_sources_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "dev.jsonl").write_text(line() + "\n")
    with pytest.raises(BadData) as caught:
        read_dialogues([tmp_path / "nowhere", tmp_path / "empty", tmp_path / "dev.jsonl"])
    assert [problem.split(": ")[1].split(" ")[0] for problem in caught.value.problems] == ["there", "the", "is"]


def test_a_folder_leaves_its_held_out_sets_out(tmp_path: Path) -> None:
    for name in ("stem", "dev", "test", "safety_test", "multiturn_test"):
        (tmp_path / f"{name}.jsonl").write_text(line(id=name) + "\n")
    assert [dialogue.id for dialogue in read_dialogues([tmp_path])] == ["stem"]


def test_a_line_of_many_megabytes_is_refused_by_size(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_bytes(line().encode() + b"\n" + b'{"messages": "' + b"x" * 50_000_000 + b'"}\n')
    assert problems_of(file) == [f"{file}:2: the line has 50.0 MB; a dialogue may have 4 MB"]


def test_what_is_written_is_read_again_the_same(tmp_path: Path) -> None:
    dialogue = Dialogue(
        id="a", messages=(Message(role="user", content="Grüße 😀\u2028\n"), Message(role="assistant", content='"Hi"'))
    )
    write_records(tmp_path / "out.jsonl", [dialogue])
    (again,) = read_dialogues([tmp_path / "out.jsonl"])
    assert again.model_dump() == dialogue.model_dump()
