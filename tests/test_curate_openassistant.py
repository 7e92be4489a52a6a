"""`thousand data curate openassistant`: which path of a message tree becomes an example, from trees and from single messages."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.dumps import TITLES, dropped, lines, prose

pytestmark = pytest.mark.usefixtures("real_home")
Message = dict[str, Any]


def said(name: str, text: str, *replies: Message, **more: Any) -> Message:
    """A message; `name` begins with p for the prompter, a for the assistant."""
    role = "prompter" if name.startswith("p") else "assistant"
    fields = {"message_id": name, "text": text, "role": role, "lang": "en", "user_id": f"u-{name}", "deleted": False}
    return {**fields, "review_result": True, "rank": None, "labels": {}, "replies": list(replies)} | more


def tree(number: int, *replies: Message, **more: Any) -> Message:
    """A tree with a question of `TITLES`."""
    root = said("p0", TITLES[number], *replies, **more)
    return {"message_tree_id": f"tree-{number}", "tree_state": "ready_for_export", "prompt": root}


def flat(message: Message, tree_id: str, parent: str | None = None) -> Iterator[Message]:
    """The messages of a tree one by one, as they are published too."""
    labels = message["labels"]
    named = {"name": list(labels), "value": [label["value"] for label in labels.values()]}
    own = {**message, "message_id": f"{tree_id}-{message['message_id']}", "labels": named, "parent_id": parent}
    yield {
        **{k: v for k, v in own.items() if k != "replies"},
        "message_tree_id": tree_id,
        "tree_state": "ready_for_export",
    }
    for reply in message["replies"]:
        yield from flat(reply, tree_id, own["message_id"])


def write(path: Path, values: list[Message]) -> Path:
    data = "".join(json.dumps(value) + "\n" for value in values).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def curate(thousand: Command, tmp_path: Path) -> Command:
    """Curate message trees into the folder `out`."""
    return lambda *given: thousand("data", "curate", "openassistant", *given, "--to", tmp_path / "out")


BEST, FOLLOW_UP, LAST = prose("best", 6), "And what if it is left to rest for twice as long?", prose("last", 6)
RANKED = tree(
    0,
    said("a1", prose("second", 6), rank=1),
    said("a2", BEST, said("p3", FOLLOW_UP, said("a4", LAST, said("p5", "And then what?"), rank=0)), rank=0),
    said("a6", prose("gone", 6), rank=-1, deleted=True),
    said("a7", prose("refused", 6), rank=-1, review_result=False),
)
TREES = [RANKED, tree(1, said("a1", prose(1, 6))), tree(2, said("a1", prose(2, 6)), lang="de")]


@pytest.mark.parametrize("kind", ["trees.jsonl.gz", "messages.jsonl", "messages.parquet"])
def test_the_best_ranked_path_is_taken_whatever_form_the_messages_have(
    kind: str, curate: Command, tmp_path: Path
) -> None:
    values = [m for t in TREES for m in flat(t["prompt"], t["message_tree_id"])] if "messages" in kind else TREES
    file = tmp_path / kind
    if kind.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(values), file)
    else:
        write(file, values)
    explained = curate(file, "--explain", "tree-2").out
    assert explained.startswith("tree-state: nothing found\nlanguage: drops it: de\nno-answer: nothing found\n")
    assert explained.endswith("audit: nothing found\n")
    result = curate(file)
    assert result.code == 0, result.err
    assert dropped(result) == {"language": 1}
    first, second = lines(tmp_path / "out" / "openassistant.jsonl")
    assert [message["content"] for message in first["messages"]] == [TITLES[0], BEST]
    assert (first["id"], second["id"], first["license"]) == ("tree-0", "tree-1", "Apache-2.0")
    authors = [work["author"] for work in first["provenance"]["works"]]
    assert authors == [f"OpenAssistant contributor u-{name}" for name in ("p0", "a2")]


def test_longer_dialogues_are_candidates_for_chains_and_are_no_examples_too(curate: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "trees.jsonl", TREES)
    assert "1 chains to edit" in curate(file, "--number", 0).out
    [chain] = lines(tmp_path / "out" / "to-edit" / "chains.jsonl")
    assert [message["content"] for message in chain["messages"]] == [TITLES[0], BEST, FOLLOW_UP, LAST]


def test_another_language(curate: Command, tmp_path: Path) -> None:
    assert curate(write(tmp_path / "trees.jsonl", TREES), "--language", "de").code == 0
    assert [line["id"] for line in lines(tmp_path / "out" / "openassistant.jsonl")] == ["tree-2"]


FAULTS = {
    "tree-state": {**tree(3, said("a1", prose(3, 6))), "tree_state": "aborted_low_grade"},
    "no-answer": tree(4, said("a1", prose(4, 6), deleted=True)),
    "labels": tree(5, said("a1", prose(5, 6), labels={"spam": {"value": 0.8, "count": 3}})),
    "first-person": tree(6, said("a1", prose(6, 6) + " That is how I do it.")),
}


def test_each_rule_drops_its_fault(curate: Command, tmp_path: Path) -> None:
    taken_back = tree(7, said("a1", prose(7, 6)), deleted=True)
    result = curate(write(tmp_path / "trees.jsonl", [TREES[1], *FAULTS.values(), taken_back]))
    assert result.code == 0
    assert dropped(result) == dict.fromkeys(FAULTS, 1) | {"tree-state": 2}


def test_messages_that_hang_on_nothing_are_told_and_their_tree_goes_on(curate: Command, tmp_path: Path) -> None:
    good = list(flat(TREES[1]["prompt"], "tree-1"))
    odd = [
        good[1] | {"text": "a second one of its number"},
        good[1] | {"message_id": "of a deleted one", "parent_id": "gone"},
        good[1] | {"message_id": "left", "parent_id": "right"},
        good[1] | {"message_id": "right", "parent_id": "left"},
        good[1] | {"message_id": 5},
    ]
    result = curate(write(tmp_path / "messages.jsonl", [*good, *odd]))
    assert result.code == 3
    for number, reason in enumerate(["stands twice in its tree", *["no way leads back"] * 3, "its message_id is 5"], 3):
        assert re.search(rf"messages\.jsonl:{number}: .*{reason}", result.err), result.err
    assert "5 rows or tables were skipped" in result.err
    [line] = lines(tmp_path / "out" / "openassistant.jsonl")
    assert line["messages"][1]["content"] == prose(1, 6)


BAD = {
    "not JSON": b'{"message_tree_id": "x"',
    "has no message_tree_id": b'{"prompt": {}}',
    "it must be a message": b'{"message_tree_id": "x", "prompt": []}',
    "has no text": b'{"message_tree_id": "x", "prompt": {"role": "prompter"}}',
    "it must be the prompter's": b'{"message_tree_id": "x", "prompt": {"role": "assistant", "text": "a"}}',
    "replies are a str": b'{"message_tree_id": "x", "prompt": {"role": "prompter", "text": "a", "replies": "b"}}',
    "has 0 first messages": b'{"message_tree_id": "y", "message_id": "m", "parent_id": "gone", "text": "a", "role": "assistant"}',
    "its parent_id is ['q']": b'{"message_tree_id": "q", "message_id": "m", "parent_id": ["q"], "text": "a", "role": "prompter"}',
    "nested too deeply": b'{"message_tree_id": "z", "prompt": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "the id tree-1 stands twice": json.dumps(TREES[1]).encode(),
}


def test_a_bad_line_is_told_with_its_place_and_the_rest_goes_on(curate: Command, tmp_path: Path) -> None:
    file, huge = tmp_path / "trees.jsonl", 10**400
    odd = tree(0, said("a1", BEST, rank=huge, labels={"spam": {"value": huge}, "quality": {"value": "high"}}))
    file.write_bytes(b"\n".join([json.dumps(TREES[1]).encode(), *BAD.values(), json.dumps(odd).encode()]))
    result = curate(file)
    assert result.code == 3
    for number, reason in enumerate(BAD, 2):
        assert any(f"trees.jsonl:{number}: " in line and reason in line for line in result.err.splitlines()), (
            reason,
            result.err,
        )
    assert len(lines(tmp_path / "out" / "openassistant.jsonl")) == 2
