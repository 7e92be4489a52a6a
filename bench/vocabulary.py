"""What the compact vocabulary costs and what it saves, on text that had no part in choosing it.

    python bench/vocabulary.py [--bits BYTES] TEXT_FILE...

For each text (and the prompts of the dev and test sets): the share of the whole vocabulary's tokens that are outside the
compact one, and the tokens with each. With --bits also the bits that the base model needs for each byte of the same text
with each vocabulary, on that many bytes from all over each text. Then the size of the two GGUF files.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Column, Table
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from assistant import base_model
from assistant.base_model import Base
from assistant.dialogue import read_dialogues
from assistant.settings import bundled
from assistant.vocabulary import compact, kept_rows

PASSAGE = 1500
"""Characters that the model reads at a time."""


def tokenizer_of(base: Base) -> Tokenizer:
    return Tokenizer.from_file(str(base.folder / "tokenizer.json"))


def tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    ids = [encoded.ids for encoded in tokenizer.encode_batch(text.splitlines(keepends=True), add_special_tokens=False)]
    return [row for line in ids for row in line]


def passages(text: str, limit: int) -> list[str]:
    """Passages at even distances, `limit` characters in all."""
    count = min(limit // PASSAGE, len(text) // PASSAGE)
    return [text[start : start + PASSAGE] for start in (len(text) // count * number for number in range(count))]


@torch.inference_mode()
def bits(base: Base, texts: Sequence[Sequence[str]]) -> list[float]:
    """Bits for each byte of the passages of each text, every passage read on its own after <bos>."""
    tokenizer = tokenizer_of(base)
    model = AutoModelForCausalLM.from_pretrained(base_model.weights_folder(base), dtype=torch.bfloat16).eval()
    found = []
    for text in texts:
        nats = 0.0
        for passage in text:
            ids = torch.tensor([tokenizer.encode(passage).ids])  # (1, T), <bos> first
            logits = model(ids).logits[0, :-1].float()  # (T - 1, V)
            nats += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        found.append(nats / math.log(2) / sum(len(passage.encode()) for passage in text))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="*")
    parser.add_argument("--bits", type=int, default=0)
    arguments = parser.parse_args()
    texts = {file.stem: file.read_text(encoding="utf-8") for file in arguments.texts}
    held_out = read_dialogues([bundled("dialogues") / f"{name}.jsonl" for name in ("dev", "test")], held_out=True)
    texts["dev and test prompts"] = "\n".join(dialogue.messages[0].content for dialogue in held_out)

    full = base_model.resolve()
    small = compact(full, print)
    rows = kept_rows(full.folder / "tokenizer.json")
    assert rows is not None
    kept = set(rows.tolist())
    table = Table(
        Column("text", no_wrap=True),
        "KB",
        "outside, %",
        "tokens",
        "compact",
        "more, %",
        "bits/byte",
        "compact",
        box=None,
    )
    measured: list[tuple[float, float] | None] = [None] * len(texts)
    if arguments.bits:
        chosen = [passages(text, arguments.bits) for text in texts.values()]
        measured = list(zip(bits(full, chosen), bits(small, chosen), strict=True))
    whole, cut = tokenizer_of(full), tokenizer_of(small)
    for (name, text), pair in zip(texts.items(), measured, strict=True):
        before, after = tokens(whole, text), tokens(cut, text)
        outside = sum(row not in kept for row in before) / len(before)
        table.add_row(
            name,
            f"{len(text.encode()) / 1000:.0f}",
            f"{outside:.2%}"[:-1],
            f"{len(before):,}",
            f"{len(after):,}",
            f"{len(after) / len(before) - 1:.2%}"[:-1],
            *([f"{bits_:.3f}" for bits_ in pair] if pair else ["", ""]),
        )
    Console().print(table)
    assert full.gguf is not None and small.gguf is not None
    sizes = [file.stat().st_size / 1e6 for file in (full.gguf, small.gguf)]
    Console().print(f"{len(kept):,} of {whole.get_vocab_size():,} rows; GGUF {sizes[0]:.0f} and {sizes[1]:.0f} MB")


if __name__ == "__main__":
    main()
