"""`thousand data curate stackexchange`: what bad dumps do to it, and runs that were broken off."""

import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.dumps import answer, exchanges, lines, row, site, table
from train.data.curate import rows, stackexchange, staging

pytestmark = pytest.mark.usefixtures("real_home")


@pytest.fixture
def curate(thousand: Command, tmp_path: Path) -> Command:
    """Curate some dumps into the folder `out`."""
    return lambda *given: thousand("data", "curate", "stackexchange", *given, "--to", tmp_path / "out")


def test_a_run_that_was_broken_off_goes_on_where_it_ended(
    curate: Command, thousand: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (rows, staging, stackexchange):
        monkeypatch.setattr(module, "BLOCK", 3_000)
    monkeypatch.setattr(rows, "MOST_ROW", 6_000)
    dump = site(tmp_path / "garden", *exchanges(1), answer(99, 8_000 * "a"), *exchanges()[2:])
    whole, keep, calls = tmp_path / "whole", staging._keep, [0]

    def breaks(*given: Any) -> Any:
        calls[-1] += 1
        if calls == [calls[0], 4]:
            raise KeyboardInterrupt
        return keep(*given)

    monkeypatch.setattr(staging, "_keep", breaks)
    assert thousand("data", "curate", "stackexchange", dump, "--to", whole).code == 3
    calls.append(0)
    assert curate(dump).code not in (0, 3)
    assert not (tmp_path / "out" / "stackexchange.jsonl").exists()
    calls.append(0)
    result = curate(dump)
    assert result.code == 3
    assert "1 rows or tables were skipped, 1 of them are told above" in result.err
    steps = re.findall(r"^Reading \(blocks of 4 MB\) (\d+)/(\d+) garden", result.err, re.MULTILINE)
    assert int(steps[0][0]) > 3, "the bar goes on where the earlier run ended"
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    # Of the blocks before the break only the one that was being written is read again.
    assert calls[2] == calls[0] - 3
    resumed = (tmp_path / "out" / "stackexchange.jsonl").read_bytes()
    assert resumed == (whole / "stackexchange.jsonl").read_bytes()


GOOD = exchanges(2)
BAD_ROWS = {
    "no XML": '  <row Id="5" PostTypeId="1" Body=broken />',
    "invalid character": '  <row Id="5" PostTypeId="1" Score="3" Body="&#x1;" Title="a" />',
    "undefined entity": '  <row Id="5" PostTypeId="1" Score="3" Body="&lol9;" Title="a" />',
    "has no Score": '  <row Id="5" PostTypeId="1" Body="a" Title="a" />',
    "is no number": '  <row Id="5" PostTypeId="1" Score="many" Body="a" Title="a" />',
    "is '99999999999999999999', which is no number": '  <row Id="5" ParentId="99999999999999999999" PostTypeId="2" Score="30" Body="a" />',
    "has no Body": '  <row Id="5" PostTypeId="2" Score="30" Body="" ParentId="1" />',
    "has no ParentId": '  <row Id="5" PostTypeId="2" Score="30" Body="a" />',
    "which is not in the dump": '  <row Id="5" PostTypeId="2" Score="30" Body="a" ParentId="3" />',
    "a row of 5.0 MB": '  <row Id="5" PostTypeId="1" Body="' + 5_000_000 * "a" + '" />',
}


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_is_told_with_its_place_and_the_rest_goes_on(reason: str, curate: Command, tmp_path: Path) -> None:
    dump = site(tmp_path / "garden", *GOOD[:2], BAD_ROWS[reason], *GOOD[2:])
    offset = (dump / "Posts.xml").read_bytes().index(b'<row Id="5"')
    result = curate(dump)
    assert result.code == 3
    told = [line for line in result.err.splitlines() if "Posts.xml: byte" in line]
    assert len(told) == 1
    assert f"Posts.xml: byte {offset:,}: " in told[0]
    assert reason.removeprefix("no XML").removeprefix("invalid character") in told[0]
    assert "1 rows or tables were skipped" in result.err
    assert len(lines(tmp_path / "out" / "stackexchange.jsonl")) == 2


def test_wrong_bytes_spoil_their_row_only(curate: Command, tmp_path: Path) -> None:
    dump = site(tmp_path / "garden", *GOOD)
    file = dump / "Posts.xml"
    file.write_bytes(file.read_bytes().replace(b'Title="Why', b'Title="Why \xe9', 1))
    result = curate(dump)
    assert result.code == 3
    assert "not well-formed (invalid token)" in result.err
    assert [line["id"] for line in lines(tmp_path / "out" / "stackexchange.jsonl")] == ["garden-20"]


def test_a_table_that_breaks_off_is_told_and_what_came_before_is_used(curate: Command, tmp_path: Path) -> None:
    dump = site(tmp_path / "garden", *exchanges(3))
    file = dump / "Posts.xml"
    file.write_bytes(file.read_bytes()[:-200])
    result = curate(dump)
    assert result.code == 3
    assert "the table breaks off here" in result.err
    assert len(lines(tmp_path / "out" / "stackexchange.jsonl")) == 2


def test_an_id_that_stands_twice_is_told_and_the_first_is_used(curate: Command, tmp_path: Path) -> None:
    again = answer(11, "<p>short</p>", Score=99)
    dump = site(tmp_path / "garden", *GOOD, again)
    result = curate(dump)
    assert result.code == 3
    offset = (dump / "Posts.xml").read_bytes().rindex(again.strip().encode())
    assert f"Posts.xml: byte {offset:,}: the id 11 stands twice in answers" in result.err
    assert len(lines(tmp_path / "out" / "stackexchange.jsonl")) == 2


BOMB = '<!DOCTYPE p [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
WHOLE_FILES = {
    "is UTF-16": table("posts", *GOOD).encode("utf-16"),
    "says it is windows-1252": table("posts", *GOOD).replace("utf-8", "windows-1252").encode(),
    "declares a document type": table("posts", row(Id=1, Body="x")).replace("<posts>", BOMB + "]><posts>", 1).encode(),
    "it is no table of a dump": b"<html>Not found</html>",
    "it is no table": b"",
}


@pytest.mark.parametrize("reason", WHOLE_FILES)
def test_a_file_that_cannot_be_read_is_told_and_other_sites_go_on(reason: str, curate: Command, tmp_path: Path) -> None:
    (site(tmp_path / "dumps" / "bad") / "Posts.xml").write_bytes(WHOLE_FILES[reason])
    site(tmp_path / "dumps" / "garden", *GOOD)
    result = curate(tmp_path / "dumps")
    assert result.code == 3
    assert reason in result.err
    assert len(lines(tmp_path / "out" / "stackexchange.jsonl")) == 2


def test_sources_without_a_dump_are_told_and_the_others_go_on(curate: Command, tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr")
    (tmp_path / "empty").mkdir()
    site(tmp_path / "dumps" / "garden", *GOOD)
    (tmp_path / "dumps" / "no.7z").write_bytes(b"7z no")
    with py7zr.SevenZipFile(tmp_path / "dumps" / "torn.7z", "w") as archive:
        archive.writestr(table("posts", *exchanges()).encode(), "Posts.xml")
    packed = bytearray((tmp_path / "dumps" / "torn.7z").read_bytes())
    packed[60:80] = bytes(20)
    (tmp_path / "dumps" / "torn.7z").write_bytes(packed)
    result = curate(tmp_path / "empty", tmp_path / "dumps")
    assert result.code == 3
    assert f"{tmp_path / 'empty'}: holds no Posts.xml" in result.err
    assert "no.7z: is no .7z archive, or a damaged one" in result.err
    assert "torn.7z/Posts.xml: cannot be unpacked to its end" in result.err
    assert len(lines(tmp_path / "out" / "stackexchange.jsonl")) == 2


def test_authors_who_cannot_be_read_are_told(curate: Command, tmp_path: Path) -> None:
    good, torn = row(Id=7, DisplayName="Ann Asker"), '  <row Id="8" DisplayName=Bob />'
    result = curate(site(tmp_path / "garden", *GOOD, users=(good, torn)))
    assert result.code == 3
    assert "Users.xml: byte 93: no XML" in result.err
    assert "1 rows or tables were skipped, 1 of them are told above" in result.err
    [works, _] = [line["provenance"]["works"] for line in lines(tmp_path / "out" / "stackexchange.jsonl")]
    assert [work["author"] for work in works] == ["Ann Asker", "user 8"]


def test_sources_without_a_dump_are_all_named(curate: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.7z").write_bytes(b"7z no")
    result = curate(tmp_path / "empty", tmp_path / "gone")
    assert result.code == 1
    assert "holds no Posts.xml" in result.err
    assert "there is no such file or folder" in result.err
    assert not (tmp_path / "out").exists()


class Endless:
    """A table with one row of `size` bytes between two good ones, made while it is read."""

    def __init__(self, size: int) -> None:
        self.parts = [b'<posts>\n<row Id="1" />\n<row Id="2" Body="', size, b'" />\n<row Id="3" />\n</posts>']

    def read(self, size: int) -> bytes:
        while self.parts:
            part = self.parts[0]
            if isinstance(part, bytes):
                self.parts.pop(0)
                return part
            if part == 0:
                self.parts.pop(0)
                continue
            self.parts[0] = part - min(size, part)
            return b"a" * min(size, part)
        return b""


def test_a_row_of_300_mb_is_passed_over_in_little_memory() -> None:
    tracemalloc.start()
    found = list(rows.blocks(Endless(300_000_000), "Posts.xml"))  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    good = b"".join(item.data for item in found if isinstance(item, rows.Block))
    [problem] = [item for item in found if not isinstance(item, rows.Block)]
    assert b'Id="1"' in good
    assert b'Id="3"' in good
    assert "300.0 MB" in problem[1]
    assert peak < 40_000_000


def test_an_archive_gives_what_its_files_give(curate: Command, tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr")
    dump = site(tmp_path / "garden", *exchanges(3))
    with py7zr.SevenZipFile(tmp_path / "garden.stackexchange.com.7z", "w") as archive:
        archive.write(dump / "Posts.xml", "Posts.xml")
    result = curate(tmp_path / "garden.stackexchange.com.7z")
    assert result.code == 0
    assert len(lines(tmp_path / "out" / "stackexchange.jsonl")) == 3


def test_an_archive_that_would_fill_the_disk_and_a_damaged_one_are_refused(curate: Command, tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr")
    with py7zr.SevenZipFile(tmp_path / "bomb.7z", "w") as archive:
        archive.writestr(b"<posts>" + bytes(20_000_000), "Posts.xml")
    (tmp_path / "torn.7z").write_bytes((tmp_path / "bomb.7z").read_bytes()[:-20])
    result = curate(tmp_path / "bomb.7z", tmp_path / "torn.7z")
    assert result.code == 1
    assert "more than 200 times its size" in result.err
    assert "torn.7z: is no .7z archive, or a damaged one" in result.err
