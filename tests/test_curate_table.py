"""`thousand data curate table`: what it selects of a help desk, a wiki, a dump of Reddit, and what odd files do to it."""

import csv
import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.dumps import TITLES, dropped, lines, prose
from train.data.curate import items
from train.data.curate.csv_rows import Header, csv_rows
from train.data.curate.markdown import Clean, clean_markdown
from train.data.curate.row_rules import RULES, Bounds, findings

pytestmark = pytest.mark.usefixtures("real_home")

COLUMNS = ("number", "title", "body", "votes", "kind", "who")
Rows = list[list[str]]


def good(count: int = 3) -> Rows:
    """So many rows that no rule drops."""
    return [[str(n), TITLES[n], prose(n, 6), str(10 - n), "ab"[n % 2], f"person {n}"] for n in range(count)]


def table(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([COLUMNS, *rows])
    return path


@pytest.fixture
def curate(thousand: Command, tmp_path: Path) -> Command:
    """Curate a table with `title` and `body` into the folder `out`."""
    return lambda *given: thousand(
        "data", "curate", "table", *given, "--to", tmp_path / "out", "--prompt", "title", "--answer", "body"
    )


def selected(tmp_path: Path) -> list[dict[str, Any]]:
    return lines(tmp_path / "out" / "table.jsonl")


def test_rows_become_examples_with_their_credits(curate: Command, tmp_path: Path) -> None:
    rows = good(2)
    rows[0][2] = (
        f"This article explains how.\r\n\r\n- see [the tides of the sea](https://example.org/x)\r\n"
        f"- ![a sea](sea.png) &amp; more\r\n\r\n```c\n[a](b);\n```\n\n{prose('end', 6)}"
    )
    rows[1][1] = f"[WP] {TITLES[1]}"
    file = table(tmp_path / "desk.csv", rows)
    options = ("--score", "votes", "--id", "number", "--group", "kind", "--author", "who")
    result = curate(file, *options)
    assert result.code == 0, result.err
    assert "thousand data review" in result.out
    first, second = selected(tmp_path)
    assert first["messages"][0]["content"] == TITLES[0]
    assert first["messages"][1]["content"] == (
        "The following answer explains how.\n\n- see the tides of the sea\n-  & more\n\n```c\n[a](b);\n```\n\n"
        + prose("end", 6)
    )
    assert second["messages"][0]["content"] == TITLES[1]
    assert (first["id"], first["topic"], first["source"]) == ("0", "a", "table/desk.csv")
    assert first["provenance"]["works"] == [{"author": "person 0"}]
    assert first["provenance"]["file"] == "desk.csv:2"


P = prose("fault", 6)
FAULTS = {
    "empty": (TITLES[5], "[deleted]"),
    "markup": (TITLES[5], f"<p>{P}</p>"),
    "prompt": ("What is in the picture that https://example.org shows?", P),
    "answer-length": (TITLES[5], "Yes."),
    "first-person": (TITLES[5], f"{P} That is how I do it."),
    "other-answers": (TITLES[5], f"{P} The other answers have the details."),
    "the-site": (TITLES[5], f"{P}\n\nEDIT: a word more."),
    "unseen": (TITLES[5], f"{P} Look [here](https://example.org)."),
    "personal-data": (TITLES[5], f"{P} Write to ada@lovelace.org."),
    "audit": (TITLES[5], f"{P} Hope this helps."),
    "duplicate-prompt": (TITLES[0].upper(), P),
    "duplicate-answer": (TITLES[5], prose(0, 6)),
}


def test_each_rule_drops_its_fault_explains_it_and_can_be_switched_off(curate: Command, tmp_path: Path) -> None:
    rows = [*good(2), *([name, *texts, "1", "a", "x"] for name, texts in FAULTS.items())]
    rows += [["score", TITLES[4], prose(4, 6), "-1", "a", "x"]]
    file = table(tmp_path / "desk.csv", rows)
    options = ("--id", "number", "--score", "votes", "--min-score", 0)
    for name in ("the-site", "duplicate-prompt", "score"):
        assert f"{name}: drops it: " in curate(file, *options, "--explain", name).out
    kept = curate(file, *options, "--explain", "0").out
    assert kept.startswith("score: nothing found\nempty: nothing found\n")
    assert kept.endswith("audit: nothing found\nselected\n")
    assert not (tmp_path / "out" / "table.jsonl").exists()
    result = curate(file, *options)
    assert result.code == 0, result.err
    assert dropped(result) == dict.fromkeys([*FAULTS, "score"], 1)
    assert [line["id"] for line in selected(tmp_path)] == ["0", "1"]
    (tmp_path / "out" / "table.jsonl").unlink()
    assert curate(file, *options, "--without", "first-person").code == 0
    assert {line["id"] for line in selected(tmp_path)} == {"0", "1", "first-person"}
    assert "no such rule; there are markup, prompt" in curate(file, "--without", "tone").err
    assert "no row" in curate(file, *options, "--explain", "gone").err.lower()


@pytest.mark.parametrize(
    ("prompt", "alone"),
    [
        ("How do I update or edit my delivery address?", True),
        ("How is the title of a car passed on?", True),
        ("To repair or to replace, that is the question?", True),
        ("As the title says, why does the lamp flicker?", False),
        ("Why does the lamp flicker?\n\n**Edit** It is the old one.", False),
        ("Can you answer the question from yesterday?", False),
    ],
)
def test_a_prompt_that_leans_on_nothing_stays(prompt: str, alone: bool) -> None:
    found = dict(findings(Clean(prompt, (), ()), Clean(P, (), ()), Bounds()))
    assert (found["prompt"] is None) == alone


@pytest.mark.parametrize(
    ("answer", "alone"),
    [
        ("You are quite right that salt melts ice. {}", False),
        ("That doesn't hold in winter. {}", False),
        ("{} The tool that is used in the video is a file.", False),
        ("{} A longer summary can be seen at the Tea Board's pages.", False),
        ("That depends on the weather. {}", True),
        ("{} Whether you are right shows in spring. That is why.", True),
        ("{} The plant can be found in marshes, and a list is enough.", True),
    ],
)
def test_an_answer_that_leans_on_nothing_stays(answer: str, alone: bool) -> None:
    found = dict(findings(Clean(TITLES[5], (), ()), Clean(answer.format(P), (), ()), Bounds()))
    assert (found["unseen"] is None) == alone


def test_explaining_says_what_every_rule_finds(curate: Command, tmp_path: Path) -> None:
    faults = f"{P} That is how I do it.\n\nEDIT: write to ada@lovelace.org."
    file = table(tmp_path / "desk.csv", [*good(2), ["bad", TITLES[5], faults, "1", "a", "x"]])
    options = ("--id", "number", "--without", "the-site", "--explain", "bad")
    found = dict(line.split(": ", 1) for line in curate(file, *options).out.splitlines())
    assert list(found) == [name for name in RULES if name not in ("score", "the-site")]
    assert {name for name, what in found.items() if what != "nothing found"} == {"first-person", "personal-data"}
    assert found["personal-data"] == "drops it: e-mail address: ada@lovelace.org"


def test_html_becomes_markdown(curate: Command, tmp_path: Path) -> None:
    rows = [["1", TITLES[0], f"<p>{P}</p><ul><li>one</li><li>two</li></ul>", "1", "a", "x"]]
    assert curate(table(tmp_path / "desk.csv", rows), "--html").code == 0
    [line] = selected(tmp_path)
    assert line["messages"][1]["content"] == f"{P}\n\n- one\n- two"
    assert line["id"] == "desk-2"


def test_groups_give_their_share_far_from_one_another(curate: Command, tmp_path: Path) -> None:
    rows = [[str(n), TITLES[n], prose(n, 6), "1", "a" if n < 7 else "b", "x"] for n in range(8)]
    assert curate(table(tmp_path / "desk.csv", rows), "--group", "kind", "--number", 4).code == 0
    assert {line["topic"] for line in selected(tmp_path)} == {"a", "b"}
    assert len(selected(tmp_path)) == 4


def test_what_strangers_wrote_steers_no_terminal(curate: Command, tmp_path: Path) -> None:
    rows = good(3)
    rows[0][4], rows[1][4] = "[/b]", "\x1b[2J[red]"
    result = curate(table(tmp_path / "desk.csv", [*rows, rows[1]]), "--group", "kind", "--id", "kind")
    assert result.code == 3
    assert "[/b]" in result.out
    assert "<U+001B>[2J[red]" in result.out
    assert "the id <U+001B>[2J[red] stands twice" in result.err
    assert "\x1b" not in result.out + result.err


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".csv.gz", ".tsv", "semicolons.csv", ".parquet"])
def test_every_kind_of_file_gives_the_same(kind: str, curate: Command, tmp_path: Path) -> None:
    rows, file = good(), tmp_path / f"desk{kind}"
    objects = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    if kind == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(objects), file, row_group_size=2)
    elif "jsonl" in kind:
        file.write_bytes(b"\xef\xbb\xbf" + "".join(json.dumps(value) + "\n\n" for value in objects).encode())
    else:
        table(file, rows, {".tsv": "\t", "semicolons.csv": ";"}.get(kind, ","))
    if kind == "semicolons.csv":
        file.write_bytes(b"\r\n" + file.read_bytes())
    if kind.endswith(".gz"):
        file.write_bytes(gzip.compress(file.read_bytes()))
    assert curate(file, "--id", "number", "--score", "votes").code == 0
    assert [line["id"] for line in selected(tmp_path)] == ["0", "1", "2"]
    assert [line["messages"][1]["content"] for line in selected(tmp_path)] == [row[2] for row in rows]


def text_of(rows: Rows) -> list[str]:
    return [",".join(row) for row in rows]


BAD_LINES = {
    "no CSV": '"7","a "quoted" word","b","1","a","x"',
    "is not closed": '"7","a title","an answer without its end',
    "has 3 values": "7,8,9",
    "not UTF-8: holds the byte 0xe9": '"7","caf\udce9","b","1","a","x"',
    "is 'many', which is no number": '"7","title","body","many","a","x"',
    "is '', which is no number": '"7","title","body","","a","x"',
    "the id 0 stands twice": '"0","title","body","1","a","x"',
    "an id has 1 to 200": '"","title","body","1","a","x"',
    "a row of 5.0 MB": f'"7","title","{"a" * 5_000_000}","1","a","x"',
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_row_is_told_with_its_line_and_the_rest_goes_on(reason: str, curate: Command, tmp_path: Path) -> None:
    first, *rest = text_of(good())
    file = tmp_path / "desk.csv"
    text = "\n".join([",".join(COLUMNS), first, BAD_LINES[reason], *rest]) + "\n"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = curate(file, "--id", "number", "--score", "votes")
    assert result.code == 3
    told = [line for line in result.err.splitlines() if "desk.csv:" in line]
    assert len(told) == 1, told
    assert "desk.csv:3: " in told[0]
    assert reason in told[0]
    assert "1 rows or tables were skipped" in result.err
    assert [line["id"] for line in selected(tmp_path)] == ["0", "1", "2"]


BAD_JSON = {
    "not JSON": b'{"title": "a", "body": ',
    "is no JSON object": b"[1, 2]",
    "has no 'body'": b'{"title": "a", "votes": 1}',
    "its body is a list": b'{"title": "a", "body": ["b"], "votes": 1}',
    "its votes is 1000": b'{"title": "a", "body": "b", "votes": 1' + b"0" * 400 + b"}",
    "its votes is {'x': 1}": b'{"title": "a", "body": "b", "votes": {"x": 1}}',
    "half a surrogate pair": b'{"title": "a", "body": "\\ud800", "votes": 1}',
    "not UTF-8": b'{"title": "a", "body": "\xe9"}',
    "a line of 5.0 MB": b'{"title": "a", "body": "' + b"a" * 5_000_000 + b'"}',
}


def test_bad_lines_of_json_are_told_with_their_lines_and_the_rest_goes_on(curate: Command, tmp_path: Path) -> None:
    file = tmp_path / "desk.jsonl"
    objects = [json.dumps(dict(zip(COLUMNS, row, strict=True))).encode() for row in good()]
    file.write_bytes(b"\n".join([objects[0], *BAD_JSON.values(), *objects[1:]]))
    result = curate(file, "--score", "votes")
    assert result.code == 3
    for number, reason in enumerate(BAD_JSON, 2):
        assert any(f"desk.jsonl:{number}: " in line and reason in line for line in result.err.splitlines()), reason
    assert max(map(len, result.err.splitlines())) < 300
    assert f"{len(BAD_JSON)} rows or tables were skipped" in result.err
    assert len(selected(tmp_path)) == 3


def test_a_torn_packed_file_is_told_and_what_came_before_is_used(curate: Command, tmp_path: Path) -> None:
    whole = table(tmp_path / "whole.csv", good(8)).read_bytes()
    (tmp_path / "desk.csv.gz").write_bytes(gzip.compress(whole)[:-200])
    result = curate(tmp_path / "desk.csv.gz")
    assert result.code == 3
    assert "breaks off or is damaged after line" in result.err
    assert selected(tmp_path)


WHOLE_FILES = {
    "is UTF-16": "number,title,body\n".encode("utf-16"),
    "is empty": b" \n",
    "it is no text": b"PK\x03\x04\x00\x00",
    "CR alone": b"title,body\ra,b\r",
}


def test_files_that_cannot_be_read_are_told_and_the_others_go_on(curate: Command, tmp_path: Path) -> None:
    files = [tmp_path / f"bad{number}.csv" for number in range(len(WHOLE_FILES))]
    for file, content in zip(files, WHOLE_FILES.values(), strict=True):
        file.write_bytes(content)
    alone = curate(*files)
    assert alone.code == 1
    result = curate(*files, table(tmp_path / "desk.csv", good()))
    assert result.code == 3
    assert all(reason in alone.err and reason in result.err for reason in WHOLE_FILES)
    assert "4 rows or tables were skipped" in result.err
    assert len(selected(tmp_path)) == 3


def test_everything_wrong_with_the_files_is_said_at_once(curate: Command, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "array.jsonl").write_text('[{"title": "a", "body": "b"}]')
    files = [table(tmp_path / "desk.csv", good()), tmp_path / "gone.csv", tmp_path / "sheet.xlsx"]
    (tmp_path / "sheet.xlsx").touch()
    result = curate(*files, tmp_path / "array.jsonl", "--score", "rating", "--author", "name")
    assert result.code == 1
    assert (
        "desk.csv: has no columns 'name', 'rating'; it has 'number', 'title', 'body', 'votes', 'kind', 'who'"
        in result.err
    )
    assert "gone.csv: there is no such file" in result.err
    assert "sheet.xlsx: is none of .csv" in result.err
    assert "array.jsonl: is one JSON array" in result.err
    assert not (tmp_path / "out").exists()
    twin = table(tmp_path / "sub" / "desk.csv", good())
    assert "is called as" in curate(files[0], twin).err


def test_a_run_that_was_broken_off_goes_on_where_it_ended(
    curate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "PIECE", 1)
    file, keep, seen = table(tmp_path / "desk.csv", good(8)), items._keep, list[str]()

    def breaks(found: Any, item: items.Item) -> Any:
        seen.append(item.id)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return keep(found, item)

    monkeypatch.setattr(items, "_keep", breaks)
    assert curate(file).code != 0
    assert not (tmp_path / "out" / "table.jsonl").exists()
    result = curate(file)
    assert result.code == 0
    assert re.findall(r"^Reading \(%\) (\d+)/100 desk.csv", result.err, re.MULTILINE) == ["100"]
    # Of what was read before the break only the piece that was being written is read again.
    assert len(seen) - len(set(seen)) <= 2
    assert len(selected(tmp_path)) == 8


class Endless:
    """A table with one row of `size` bytes between two good ones, made while it is read."""

    def __init__(self, size: int) -> None:
        self.left, self.stage = size, 0

    def seek(self, offset: int) -> None:
        return None

    def readline(self, most: int) -> bytes:
        if self.stage == 2 and self.left:
            part = min(most, self.left)
            self.left -= part
            return b"a" * part if self.left else b"a" * (part - 1) + b"\n"
        self.stage += 1
        if self.stage == 2:
            return self.readline(most)
        return {1: b"1,2\n", 3: b"3,4\n"}.get(self.stage, b"")


def test_a_row_of_300_mb_is_passed_over_in_little_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    found = list(csv_rows(Endless(300_000_000), Header(["a", "b"], ","), 1, 0))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [values for _, values, *_ in found if isinstance(values, dict)] == [
        {"a": "1", "b": "2"},
        {"a": "3", "b": "4"},
    ]
    assert ["300.0 MB" in str(values) for _, values, *_ in found] == [False, True, False]
    assert peak < 40_000_000


def test_links_pictures_and_entities_go_and_code_stays() -> None:
    text = 'a [b c](http://x "t") `[d](e)` ![f](g)\n[h][1] &gt; i\n\n[1]: http://x\n```\n[j](k) &amp;\n```\nSee:\n\n![l](m)'
    found = clean_markdown(text)
    assert found.text == "a b c `[d](e)`\nh > i\n\n```\n[j](k) &amp;\n```\nSee:"
    assert found.links == ("b c", "h")
    assert found.pictures == ("See:",)
