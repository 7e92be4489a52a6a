"""Merging into GGUF: the numbers are those of base plus adapter, and everything else stays as it was."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.torch import load_file

from assistant import release
from assistant.base_model import resolve
from assistant.errors import ThousandError
from assistant.gguf_merge import merge


def test_truth_3_the_merged_file_is_base_plus_adapter_within_the_rounding_of_its_type(
    real_home: Path, tmp_path: Path
) -> None:
    base, place = resolve(), release.path(release.current())
    assert base.gguf is not None
    seen: list[tuple[int, int]] = []
    merge(base.gguf, place, tmp_path / "merged.gguf", lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(seen)
    before = {tensor.name: tensor for tensor in gguf.GGUFReader(base.gguf).tensors}
    merged = gguf.GGUFReader(tmp_path / "merged.gguf")
    after = {tensor.name: tensor for tensor in merged.tensors}
    assert before.keys() == after.keys()

    adapter = load_file(place / release.ADAPTER)
    prefix = "base_model.model.model.layers.3.mlp.down_proj"
    first, second = (adapter[f"{prefix}.lora_{side}.weight"].float().numpy() for side in "AB")
    old, new = before["blk.3.ffn_down.weight"], after["blk.3.ffn_down.weight"]
    expected = gguf.dequantize(old.data, old.tensor_type) + 2.0 * second @ first  # alpha 32 over rank 16
    found = gguf.dequantize(new.data, new.tensor_type)
    # Q8_0: one scale for each 32 weights, itself rounded to float16, which moves the largest by up to 0.07 of a step.
    step = np.abs(expected).reshape(-1, 32).max(axis=1) / 127
    assert (np.abs(found - expected).reshape(-1, 32) <= 0.58 * step[:, None] + 5e-6).all()
    assert np.abs(expected - gguf.dequantize(old.data, old.tensor_type)).max() > 0.001

    embedding = "token_embd.weight"
    assert after[embedding].tensor_type == before[embedding].tensor_type
    assert np.array_equal(after[embedding].data, before[embedding].data)
    original = gguf.GGUFReader(base.gguf)
    for name, field in original.fields.items():
        if not name.startswith("GGUF."):
            assert merged.fields[name].contents() == field.contents(), name


def test_an_adapter_of_another_base_is_refused_by_name(real_home: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import save_file

    base, place = resolve(), release.path(release.current())
    assert base.gguf is not None
    shutil.copytree(place, tmp_path / "other")
    adapter = load_file(place / release.ADAPTER)
    pair = {side: adapter[f"base_model.model.model.layers.3.mlp.down_proj.lora_{side}.weight"] for side in "AB"}
    save_file(
        {f"base_model.model.model.layers.99.mlp.down_proj.lora_{side}.weight": pair[side] for side in "AB"},
        tmp_path / "other" / release.ADAPTER,
    )
    with pytest.raises(ThousandError, match="was trained on another base model"):
        merge(base.gguf, tmp_path / "other", tmp_path / "merged.gguf")
