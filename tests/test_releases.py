"""Releases and the registry, through the command line."""

import json
import shutil
from pathlib import Path

import pytest

from assistant.dialogue import read_dialogues
from assistant.lineage import learnt, read_lineage, releases_trained_on
from tests.conftest import Command, short_dev


@pytest.fixture
def two_releases(
    thousand: Command,
    home: Path,
    tiny_base: Path,
    dialogues_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Path:
    """A registry of two small releases of the tiny base, none of them promoted, and none that came along."""
    (tmp_path / "none").mkdir()
    monkeypatch.setattr("assistant.release.bundled", lambda name: tmp_path / "none")
    for name in ("first", "second"):
        result = thousand(
            "train",
            "--base",
            tiny_base,
            "--data",
            dialogues_file,
            *short_dev(dialogues_file),
            "--name",
            name,
            "--set",
            "epochs=1",
        )
        assert result.code == 0, result.err
    return home / "releases"


def test_a_run_leaves_a_whole_release(two_releases: Path, dialogues_file: Path) -> None:
    place = two_releases / "first"
    names = {path.name for path in place.iterdir()}
    assert names >= {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names >= {"chat_template.jinja", "generation_config.json", "release.json", "README.md", "training.png"}
    record = json.loads((place / "release.json").read_text())
    assert record["data"][0]["name"] == dialogues_file.name
    assert record["data"][0]["dialogues"] == 10
    assert read_lineage("first") == [learnt(dialogue) for dialogue in read_dialogues([dialogues_file])]
    assert releases_trained_on("mine-3") == ["first", "second"]
    assert record["recipe"]["preset"] == "laptop"
    assert record["template"]["stop_rule"] == "eos"
    assert str(dialogues_file.parent) not in (place / "README.md").read_text(), (
        "a card tells nothing of this machine's folders"
    )


def test_promote_and_rollback(thousand: Command, two_releases: Path) -> None:
    assert "There is no earlier release to go back to" in thousand("releases", "rollback").err
    assert "No release is current yet; choose one with: thousand releases promote second" in thousand("chat").err
    assert "first" in thousand("releases", "list").out
    assert thousand("releases", "promote", "first").code == 0
    assert "it replaces first" in thousand("releases", "promote", "second").out
    assert "* second" in " ".join(thousand("releases", "list").out.split())
    assert thousand("releases", "rollback").out == "first is current again.\n"
    result = thousand("releases", "rollback")
    assert result.code == 1
    assert "There is no earlier release" in result.err


def test_a_copied_release_folder_is_named_as_broken(thousand: Command, two_releases: Path) -> None:
    shutil.copytree(two_releases / "first", two_releases / "copy")
    result = thousand("releases", "list")
    assert result.code == 1
    assert "copy is no whole release: its record is that of first" in result.err


def test_a_finished_run_is_not_resumed(thousand: Command, two_releases: Path) -> None:
    result = thousand("train", "--resume", "first")
    assert result.code == 1
    assert "The run 'first' is finished; its release is first." in result.err


def test_an_unknown_release_is_one_sentence_with_the_nearest_name(thousand: Command, two_releases: Path) -> None:
    for arguments in (
        ["releases", "promote", "frist"],
        ["releases", "show", "frist"],
        ["evaluate", "dev", "--release", "frist"],
    ):
        result = thousand(*arguments)
        assert result.code == 1
        assert "There is no release 'frist'; did you mean first?" in result.err


def test_a_name_that_leaves_the_folder_is_refused(thousand: Command, two_releases: Path) -> None:
    result = thousand("releases", "show", "../releases/first")
    assert result.code == 1
    assert "There is no release '../releases/first'" in result.err


def test_a_name_taken_is_refused(thousand: Command, two_releases: Path, tiny_base: Path, dialogues_file: Path) -> None:
    result = thousand(
        "train", "--base", tiny_base, "--data", dialogues_file, *short_dev(dialogues_file), "--name", "first"
    )
    assert result.code == 1
    assert "There is a run or a release named 'first' already" in result.err


def test_a_damaged_adapter_is_not_served(thousand: Command, two_releases: Path) -> None:
    adapter = two_releases / "first" / "adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1])
    result = thousand("evaluate", "dev", "--release", "first", "--engine", "transformers")
    assert result.code == 1
    assert "are missing or damaged (checksum)" in result.err


def test_the_release_that_comes_along_is_installed_with_its_tokenizer_and_is_current(
    thousand: Command, real_home: Path
) -> None:
    shown = json.loads(thousand("releases", "show").out.partition("\n")[2])
    place = real_home / "releases" / shown["name"]
    assert {"tokenizer.json", "chat_template.jinja", "NOTICE"} <= {path.name for path in place.iterdir()}
    assert "Gemma Terms of Use" in (place / "NOTICE").read_text()
    assert (place / "adapter_model.safetensors").stat().st_size < 8_000_000


def test_data_show_colours_what_is_supervised(thousand: Command, real_home: Path) -> None:
    result = thousand("data", "show", "stem-0001")
    assert result.code == 0, result.err
    assert "<start_of_turn>|user|" in result.out
    assert "|<eos>|<end_of_turn>|" in result.out
    missing = thousand("data", "show", "stem-00001")
    assert missing.code == 1
    assert "near it are" in missing.err
