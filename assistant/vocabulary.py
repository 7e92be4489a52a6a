"""The compact vocabulary: a base model with the rows of its vocabulary that English uses, and no others.

Two thirds of the embedded base are the 262,144 rows of its vocabulary, and English needs some 76,000 of them. The others
are left out of embedding, head, tokenizer and GGUF file; what was written with them falls back to bytes, so any text can
still be read and written. Which rows stay was chosen once (`bench/choose_rows.py`) and comes along, one file for each
tokenizer. An adapter does not touch the vocabulary: one that was trained compact fits the full base too.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock

from assistant.base_model import Base, Say, disk_error, loading, quiet, quiet_transformers
from assistant.errors import ThousandError
from assistant.families import FAMILIES
from assistant.files import atomic_folder, write_text
from assistant.merges import Rows, merge_pairs
from assistant.settings import bundled, settings
from assistant.template import Template

Vocabulary = Literal["full", "compact"]
"""Which of a base model's rows a run trains with, and a release is served with."""

LAYOUT = 1
"""Raised when `compact` writes something else for the same rows, so that what an older version left is not used."""


def _tokens(state: Mapping[str, Any]) -> dict[str, int]:
    """Every token of a tokenizer.json and its id, the model's and the added ones."""
    return {**state["model"]["vocab"], **{token["content"]: token["id"] for token in state["added_tokens"]}}


def fingerprint(state: Mapping[str, Any]) -> str:
    """Hex SHA-256 over the tokens by id and the merges in order: what a choice of rows is for.

    Not over the file: another version of a library writes the same tokenizer in other bytes.
    """
    tokens = sorted((row, text) for text, row in _tokens(state).items())
    return hashlib.sha256(json.dumps([tokens, merge_pairs(state)]).encode()).hexdigest()


@lru_cache(maxsize=4)
def _known_by(file: Path, size: int, changed: int) -> str | None:
    """The fingerprint of the tokenizer in a file of that size and time, None for one of a kind that no choice is made for.

    A command asks for it several times, and reading a quarter of a million words takes a second.
    """
    state = json.loads(file.read_text(encoding="utf-8"))
    if state["model"]["type"] != "BPE" or not state["model"].get("byte_fallback"):
        return None
    return fingerprint(state)


def kept_rows(tokenizer_file: Path) -> Rows | None:
    """The rows chosen for the tokenizer in a tokenizer.json, None where no choice comes along for it."""
    stat = tokenizer_file.stat()
    known_by = _known_by(tokenizer_file, stat.st_size, stat.st_mtime_ns)
    if known_by is None:
        return None
    file = bundled("vocabulary") / f"{known_by[:16]}.npy"
    return np.flatnonzero(np.unpackbits(np.load(file, allow_pickle=False))) if file.exists() else None


def always_kept(folder: Path) -> list[int]:
    """The rows that no choice may lack: bytes, whitespace, HTML tags, turn markers and what tokenizer_config.json names.

    Raises ThousandError when the tokenizer in `folder` fits no template.
    """
    control = Template.load(folder).control
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    named = {value for key, value in config.items() if key.endswith("_token") and isinstance(value, str)}
    named |= {marker for family in FAMILIES for marker in (family.open, family.close)}
    added = {token["content"] for token in state["added_tokens"]}
    tokens = _tokens(state)
    octets = {f"<0x{byte:02X}>" for byte in range(256)}
    return [
        row
        for text, row in tokens.items()
        if text in octets or not text.strip("▁ \t\r\n") or (text in added and (text in named or text not in control))
    ]


def _compact_tokenizer(state: dict[str, Any], rows: Rows) -> dict[str, Any]:
    """The content of a tokenizer.json with the kept tokens only, numbered anew in the order of their old ids."""
    new_id = {row: number for number, row in enumerate(rows.tolist())}
    added = [{**token, "id": new_id[token["id"]]} for token in state["added_tokens"] if token["id"] in new_id]
    # Added tokens that are not in the model's vocabulary are numbered anew on loading, so all are put into it.
    kept = {text: new_id[row] for text, row in _tokens(state).items() if row in new_id}
    merges = [pair for pair in merge_pairs(state) if pair[0] in kept and pair[1] in kept and "".join(pair) in kept]
    model = {**state["model"], "vocab": dict(sorted(kept.items(), key=lambda token: token[1])), "merges": merges}
    processor = _renumbered(state["post_processor"], new_id)
    return {**state, "model": model, "added_tokens": added, "post_processor": processor}


def _renumbered(processor: Any, new_id: Mapping[int, int]) -> Any:
    """A post-processor with the new ids of the control tokens that it puts in."""
    if isinstance(processor, list):
        return [_renumbered(part, new_id) for part in processor]
    if not isinstance(processor, dict):
        return processor
    return {
        key: [new_id[row] for row in value] if key == "ids" else _renumbered(value, new_id)
        for key, value in processor.items()
    }


def _save_tokenizer(source: Path, rows: Rows, folder: Path) -> None:
    state = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    folder.mkdir(exist_ok=True)
    write_text(folder / "tokenizer.json", json.dumps(_compact_tokenizer(state, rows), ensure_ascii=False))
    shutil.copyfile(source / "tokenizer_config.json", folder / "tokenizer_config.json")


def _new_ids(config: Any, rows: Rows) -> None:
    """Number the special tokens of a model's configuration anew; one whose row is gone becomes None."""
    new_id = {row: number for number, row in enumerate(rows.tolist())}
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") and value is not None:
            many = [new_id[row] for row in value if row in new_id] if isinstance(value, list) else new_id.get(value)
            setattr(config, name, many)


def _save_weights(source: Path, rows: Rows, folder: Path) -> None:
    """Save the model in `source` with the kept rows of its embedding and head, in the precision it has."""
    import torch
    from transformers import AutoModelForCausalLM

    quiet_transformers()
    with loading(source):
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype="auto", trust_remote_code=False, use_safetensors=True
        )
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    kept = torch.from_numpy(rows)
    by_row = {id(tensor): tensor for layer in (inputs, head) if layer is not None for tensor in layer.parameters()}
    for tensor in by_row.values():  # a tied head is the embedding itself
        tensor.data[: len(rows)] = tensor.data[kept]
    model.resize_token_embeddings(len(rows), mean_resizing=False)
    for config in (model.config, model.generation_config):
        if config is not None:
            _new_ids(config, rows)
    model.save_pretrained(folder)


def _write(base: Base, rows: Rows, folder: Path) -> None:
    from assistant import compact_gguf

    source = base.folder if base.gguf is None else base.gguf.parent
    beside = folder / "transformers" if base.gguf is None else folder
    if base.gguf is None:
        _save_weights(base.folder, rows, folder / "transformers")
        _save_tokenizer(base.folder, rows, folder / "transformers")
    else:
        compact_gguf.keep_rows(base.gguf, folder / base.gguf.name, rows)
        _save_tokenizer(base.folder, rows, folder / "tokenizer")
    for notice in [*source.glob("LICENSE*"), *source.glob("NOTICE*")]:
        shutil.copyfile(notice, beside / notice.name)


def compact(base: Base, say: Say = quiet) -> Base:
    """`base` with the rows of `kept_rows` only: its own files in THOUSAND_HOME/base, made on first use.

    Its name stays that of the whole base; its checksum is of the whole base's and the rows. `Template.load`,
    `weights_folder`, `merge` and the engines take it as any other base. Raises ThousandError when no choice of rows
    comes along for its tokenizer, or when the disk is full.
    """
    rows = kept_rows(base.folder / "tokenizer.json")
    if rows is None:
        raise ThousandError(
            f"There is no compact vocabulary for the tokenizer of {base.name}; use the full one, with: --set vocabulary=full"
        )
    checksum = hashlib.sha256(f"{base.checksum} compact {LAYOUT} ".encode() + rows.tobytes()).hexdigest()
    folder = settings().home / "base" / checksum[:16]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".compact.lock")):
            if not folder.exists():
                say(f"Leaving out the rows of {Path(base.name).name} that English does not use (once, a few seconds)")
                with atomic_folder(folder) as temporary:
                    _write(base, rows, temporary)
    except OSError as error:
        raise disk_error(error, settings().home) from error
    if base.gguf is None:
        return replace(base, checksum=checksum, folder=folder / "transformers")
    return replace(base, checksum=checksum, gguf=folder / base.gguf.name, folder=folder / "tokenizer")


def with_vocabulary(base: Base, vocabulary: Vocabulary, say: Say = quiet) -> Base:
    """`base` itself, or what `compact` makes of it: what a run of this vocabulary trains on and a release is served with."""
    return compact(base, say) if vocabulary == "compact" else base
