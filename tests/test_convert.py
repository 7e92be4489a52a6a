"""`thousand data convert`: dialogues survive every format, and what does not is reported."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from assistant.dialogue import Dialogue, read_dialogues
from tests.conftest import Command

PLAIN = {
    "messages": [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes, é 😀."},
        {"role": "user", "content": "And two?\n\nReally?"},
        {"role": "assistant", "content": "No."},
    ]
}
ODD = {"messages": [*PLAIN["messages"], {"role": "user", "content": "Why?"}]}
SYSTEM = {"messages": [{"role": "system", "content": "Be brief."}, *PLAIN["messages"][:2]]}


def write(file: Path, values: list[Any]) -> Path:
    file.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["there.jsonl", "there.json"])
@pytest.mark.parametrize("to", ["openai", "lima", "sharegpt", "alpaca"])
def test_multi_turn_odd_length_and_system_messages_survive_there_and_back(
    thousand: Command, tmp_path: Path, to: str, name: str
) -> None:
    lines = [PLAIN, ODD] if to == "lima" else [PLAIN, ODD, SYSTEM]
    start, there, back = write(tmp_path / "start.jsonl", lines), tmp_path / name, tmp_path / "back.jsonl"
    assert thousand("data", "convert", start, there, "--to", to).code == 0
    result = thousand("data", "convert", there, back)
    assert result.code == 0, result.err
    assert f"{len(lines)} in {to}" in result.out or (to == "openai" and "in thousand" in result.out)
    before, after = read_dialogues([start]), read_dialogues([back])
    assert [dialogue.messages for dialogue in after] == [dialogue.messages for dialogue in before]


FOREIGN = {
    "lima": ({"conversations": ["q", "a"], "source": "stackexchange"}, ["user q", "assistant a"]),
    "openai": (
        {
            "messages": [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "q"}]},
            ]
        },
        ["system s", "user q"],
    ),
    "sharegpt": (
        {"id": 7, "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
        ["system s", "user q", "assistant a"],
    ),
    "alpaca": (
        {"instruction": "Sum up:", "input": "A text.", "output": "a", "history": [["q", "b"]]},
        ["user q", "assistant b", "user Sum up:\n\nA text.", "assistant a"],
    ),
}


@pytest.mark.parametrize("form", FOREIGN)
def test_a_foreign_line_is_read_for_what_it_is(thousand: Command, tmp_path: Path, form: str) -> None:
    value, expected = FOREIGN[form]
    target = tmp_path / "out.jsonl"
    result = thousand("data", "convert", write(tmp_path / "in.jsonl", [value]), target)
    assert result.code == 0, result.err
    (dialogue,) = read_dialogues([target])
    assert [f"{message.role} {message.content}" for message in dialogue.messages] == expected
    assert f"1 in {form}" in result.out


BAD = [
    ({"conversations": ["q", ""]}, "messages[1].content: is empty"),
    ({"conversations": [{"from": "function_call", "value": "f()"}]}, "conversations[0].from: is 'function_call'"),
    ({"conversations": [{"from": "gpt", "value": "a"}]}, "begins with a user turn"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "has a part of type 'image_url'"),
    (
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [1]}]},
        "tool_calls: ",
    ),
    (
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]},
        "weight: is 0",
    ),
    ({"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "a"}]}, "is 'tool'"),
    ({"instruction": "q", "input": 3, "output": "a"}, "input: is a int; it must be text"),
    ({"instruction": "q", "context": "c", "response": "a"}, "output: is missing"),
    ({"instruction": "q", "history": 7, "output": "a"}, "history: is a int; it must be a list"),
    ({"conversations": ["q", "a"], "source": "\ud800"}, "half a surrogate pair"),
    ({"prompt": "q", "completion": "a"}, "is in no known format"),
]


def test_every_line_that_cannot_be_converted_is_reported_and_nothing_is_written(
    thousand: Command, tmp_path: Path
) -> None:
    file, target = write(tmp_path / "in.jsonl", [value for value, _ in BAD] + [PLAIN]), tmp_path / "out.jsonl"
    result = thousand("data", "convert", file, target)
    problems = [text for text in result.err.splitlines() if text.startswith(str(file))]
    assert len(problems) == len(BAD)
    for number, (problem, (_, reason)) in enumerate(zip(problems, BAD, strict=True), 1):
        assert problem.startswith(f"{file}:{number}: ")
        assert reason in problem
    assert (result.code, target.exists()) == (1, False)


def test_bad_lines_can_be_left_out_and_are_still_reported(thousand: Command, tmp_path: Path) -> None:
    file, target = write(tmp_path / "in.jsonl", [PLAIN, {"prompt": "q"}]), tmp_path / "out.jsonl"
    result = thousand("data", "convert", file, target, "--skip-bad")
    assert (result.code, len(read_dialogues([target]))) == (0, 1)
    assert f"{file}:2: is in no known format" in result.err


def test_a_system_message_has_no_place_in_the_lima_format(thousand: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [SYSTEM])
    result = thousand("data", "convert", file, tmp_path / "out.jsonl", "--to", "lima")
    assert f"{file}:1: has a system message" in result.err
    assert result.code == 1


def test_fields_without_a_place_are_named_with_their_number(thousand: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [{**PLAIN, "id": "a", "checks": {"max_words": 9}}, {**PLAIN, "id": "b"}])
    result = thousand("data", "convert", file, tmp_path / "out.jsonl", "--to", "openai")
    assert "has no place for it: checks (1 lines)" in result.err
    assert "has no place for it: id (2 lines)" in result.err


def test_an_array_names_the_line_each_item_begins_in(thousand: Command, tmp_path: Path) -> None:
    file = tmp_path / "in.json"
    items = '\ufeff[\n {"instruction": "q", "output": "a"},\n {"instruction": 4, "output": "a"},\n\n 7]'
    file.write_text(items, encoding="utf-8")
    result = thousand("data", "convert", file, tmp_path / "out.jsonl")
    problems = [text.removeprefix(f"{file}:") for text in result.err.splitlines() if text.startswith(str(file))]
    assert [problem[:14] for problem in problems] == ["3: instruction", "5: is a JSON i"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"instruction": "q", "output": "a"},\n {"instruc', ":2: not JSON: "),
        ('[{"instruction": "q", "output": "a"}]\n[]', ":1: something follows the end of the array"),
        ('[{"instruction": "q", "output": "a"} {}]', ":1: not JSON: a comma"),
        ('[{"instruction": "q", "output": "a"},,]', ":1: not JSON: "),
    ],
)
def test_a_torn_array_is_refused_even_where_bad_lines_are_left_out(
    thousand: Command, tmp_path: Path, text: str, problem: str
) -> None:
    file = tmp_path / "in.json"
    file.write_text(text, encoding="utf-8")
    result = thousand("data", "convert", file, tmp_path / "out.jsonl", "--skip-bad")
    assert f"{file}{problem}" in result.err
    assert (result.code, (tmp_path / "out.jsonl").exists()) == (1, False)


def test_a_pipe_is_read_once(thousand: Command, tmp_path: Path) -> None:
    pipe, target = tmp_path / "pipe", tmp_path / "out.jsonl"
    os.mkfifo(pipe)
    text = "".join(json.dumps(PLAIN) + "\n" for _ in range(500))
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    result = thousand("data", "convert", pipe, target)
    writer.join()
    assert (result.code, len(read_dialogues([target]))) == (0, 500)


def test_what_is_for_people_is_kept_from_every_format_and_the_rest_is_named(thousand: Command, tmp_path: Path) -> None:
    file, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    known = {"source": "s", "topic": "t", "license": "CC0-1.0", "model": "m"}
    write(file, [{**value, **known, "id": number} for number, (value, _) in enumerate(FOREIGN.values())])
    result = thousand("data", "convert", file, target)
    assert result.code == 0, result.err
    assert {(d.source, d.topic, d.license) for d in read_dialogues([target])} == {("s", "t", "CC0-1.0")}
    assert [d.id for d in read_dialogues([target])] == ["0", "1", "2", "3"]
    assert f"model ({len(FOREIGN)} lines)" in result.err


def test_a_file_that_exists_is_not_written_over(thousand: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [PLAIN])
    result = thousand("data", "convert", file, file)
    assert result.code == 1
    assert "exists already" in result.err
    assert thousand("data", "convert", tmp_path / "no.jsonl", tmp_path / "new.jsonl").code == 1


def test_the_json_schema_accepts_what_is_read_and_names_what_is_not(thousand: Command) -> None:
    schema = json.loads(thousand("data", "schema").out)
    assert schema == Dialogue.model_json_schema()
    committed = Path(__file__).parent.parent / "data" / "dialogues" / "schema.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == schema
