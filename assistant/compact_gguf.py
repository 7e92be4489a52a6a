"""A GGUF file with some rows of its vocabulary only.

Rows of the embedding, and of a head of its own where the file has one, are taken byte for byte: every type of GGUF
quantises inside a row. The tokenizer's lists are cut the same way, its special ids numbered anew; every other tensor and
all other metadata are copied.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from assistant.errors import ThousandError
from assistant.merges import Rows

BY_ROW = frozenset({"token_embd.weight", "output.weight", "output.bias"})
"""Tensors whose rows are tokens."""

LISTS = frozenset({gguf.Keys.Tokenizer.LIST, gguf.Keys.Tokenizer.SCORES, gguf.Keys.Tokenizer.TOKEN_TYPE})
"""Metadata with one element for each token."""


def _kept(name: str, value: Any, rows: Rows, new_id: dict[int, int]) -> Any:
    """A metadata value of the file with fewer rows; None when it names a token that is gone."""
    if name in LISTS:
        return [value[row] for row in rows.tolist()]
    if name.startswith("tokenizer.ggml.") and name.endswith("_token_id"):
        return new_id.get(value)
    return len(rows) if name.endswith(".vocab_size") else value


def keep_rows(source: Path, target: Path, rows: Rows) -> None:
    """Write the GGUF file `source` with the tokens `rows` only, in their order, to `target`.

    Raises ThousandError for a tokenizer with merges of its own in the file (byte-level BPE).
    """
    reader = gguf.GGUFReader(source)
    if gguf.Keys.Tokenizer.MERGES in reader.fields:
        raise ThousandError(
            f"{source.name} holds a byte-level tokenizer, which cannot be made compact; use the full vocabulary."
        )
    writer = gguf.GGUFWriter(target, reader.fields[gguf.Keys.General.ARCHITECTURE].contents())
    new_id = {row: number for number, row in enumerate(rows.tolist())}
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == gguf.Keys.General.ARCHITECTURE:
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        value = _kept(field.name, field.contents(), rows, new_id)
        if value is not None:
            writer.add_key_value(field.name, value, kind, element)
    for tensor in reader.tensors:
        data = tensor.data[rows] if tensor.name in BY_ROW else tensor.data
        writer.add_tensor(tensor.name, np.ascontiguousarray(data), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
