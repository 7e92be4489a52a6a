"""Which tokens a byte-pair tokenizer builds the others from (Sennrich et al. 2016, arXiv 1508.07909, section 3.2).

A tokenizer with a part of the vocabulary gives the same pieces for text of kept tokens only if every piece that stands
between a character and a kept token is kept too: the part must be closed under merges.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Token ids in ascending order, shape (kept,): the rows of the embedding that stay."""


def merge_pairs(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges of a tokenizer.json, the one that is done first first; older files write each as one string."""
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in state["model"]["merges"])
    return [(left, right) for left, right in pairs]


class Merges:
    """The merges of one tokenizer, given as the content of its tokenizer.json."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._vocabulary: dict[str, int] = state["model"]["vocab"]
        self._text = {row: text for text, row in self._vocabulary.items()}
        self._added = {token["id"] for token in state["added_tokens"]}
        self._ranks: dict[tuple[str, str], int] = {}
        for rank, pair in enumerate(merge_pairs(state)):
            self._ranks.setdefault(pair, rank)

    def derivation(self, text: str) -> list[str]:
        """Every piece on the way from the characters of `text` (as the model sees it: Gemma's spaces are `▁`) to its tokens.

        The merge of the lowest rank is done first, of several of them the leftmost. A character that the vocabulary
        lacks begins as its bytes.
        """
        parts: list[str] = []
        for character in text:
            known = character in self._vocabulary
            parts += [character] if known else [f"<0x{byte:02X}>" for byte in character.encode()]
        seen = list(parts)
        while len(parts) > 1:
            pairs = pairwise(parts)
            rank, place = min((self._ranks.get(pair, len(self._ranks)), place) for place, pair in enumerate(pairs))
            if rank == len(self._ranks):
                break
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
            seen.append(parts[place])
        return seen

    def needed(self, row: int) -> set[int]:
        """The token itself and all that it is built from.

        What happens inside a token's own characters does not depend on the text around it, since no merge crosses its
        ends; so the derivation of its text alone is its derivation everywhere.
        """
        if row in self._added or row not in self._text:
            return {row}
        pieces = self.derivation(self._text[row])
        if pieces[-1] != self._text[row]:  # no text ever gives this token
            return {row}
        return {row, *(self._vocabulary[piece] for piece in pieces)}

    def closed(self, rows: Iterable[int]) -> Rows:
        """`rows` with everything that they are built from."""
        return np.array(sorted({needed for row in rows for needed in self.needed(int(row))}), dtype=np.int64)
