"""Encoding what a person typed, so that nothing in it can be taken for a marker of the template.

Control tokens are taken out of the tokenizer. Markers that are ordinary text are known by their ids: where the ids of a
content would hold a marker's, the content is encoded in two pieces, cut inside that place. Its text stays as it is.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE, Model

from assistant.errors import ThousandError

_TAGS = (
    "a b blockquote body caption code div em footer h1 h2 h3 h4 h5 h6 html i iframe img li s span strong sub sup table "
    "tbody td tfoot th thead tr u ul"
)
_HTML = frozenset(_TAGS.split())
"""HTML tags are content even where a tokenizer has whole tokens for them."""


def _is_control(token: AddedToken) -> bool:
    text: str = token.content
    if not text.strip():
        return False
    return bool(token.special) or text.strip("</>") not in _HTML


def _without_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normalizer or pre-tokenizer that no longer puts a space before every text: content stands after a newline."""
    if part is None or part["type"] == "Prepend":
        return None
    part = dict(part)
    for inner in ("normalizers", "pretokenizers"):
        if inner in part:
            part[inner] = [kept for each in part[inner] if (kept := _without_prefix(each)) is not None]
    if "prepend_scheme" in part:
        part["prepend_scheme"] = "never"
    if "add_prefix_space" in part:
        part["add_prefix_space"] = False
    return part


def _parts_for_content(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer without words whose normalizer and pre-tokenizer are those for content."""
    shell = Tokenizer(BPE())
    if tokenizer.normalizer is not None:
        shell.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        shell.pre_tokenizer = tokenizer.pre_tokenizer
    state = json.loads(shell.to_str())
    state["normalizer"] = _without_prefix(state["normalizer"])
    state["pre_tokenizer"] = _without_prefix(state["pre_tokenizer"])
    return Tokenizer.from_str(json.dumps(state))


def _with_words(tokenizer: Tokenizer, words: dict[str, int]) -> Model:
    """The tokenizer's model with `words` in its vocabulary."""
    state = json.loads(tokenizer.to_str())
    if isinstance(state["model"]["vocab"], dict):
        state["model"]["vocab"].update(words)
    model: Model = Tokenizer.from_str(json.dumps(state)).model
    return model


def _without_control_tokens(tokenizer: Tokenizer) -> tuple[Tokenizer, dict[str, int]]:
    """The tokenizer for content, and the control tokens (spelling to id) it no longer knows.

    Leaving the added tokens out is surer than asking an encoder not to parse them: Gemma's `[multimodal]` is no
    "special" token and would still match.
    """
    added = tokenizer.get_added_tokens_decoder()
    control = {token.content: id_ for id_, token in added.items() if _is_control(token)}
    kept = {id_: token for id_, token in added.items() if token.content not in control}
    model = tokenizer.model  # shared, not copied: reading a quarter of a million words takes longer than all the rest
    outside = {token.content: id_ for id_, token in kept.items() if model.token_to_id(token.content) != id_}
    if outside:  # such tokens would be numbered anew
        model = _with_words(tokenizer, outside)
    content, parts = Tokenizer(model), _parts_for_content(tokenizer)
    if parts.normalizer is not None:
        content.normalizer = parts.normalizer
    if parts.pre_tokenizer is not None:
        content.pre_tokenizer = parts.pre_tokenizer
    if tokenizer.decoder is not None:
        content.decoder = tokenizer.decoder
    content.add_tokens([token for _, token in sorted(kept.items())])
    moved = [token.content for id_, token in kept.items() if content.token_to_id(token.content) != id_]
    if moved:
        raise ThousandError(
            f"This tokenizer's token {moved[0]!r} cannot be kept apart from control tokens; it cannot be used."
        )
    forged = [text for text, id_ in control.items() if id_ in content.encode(text, add_special_tokens=False).ids]
    if forged:
        raise ThousandError(
            f"This tokenizer builds the control token {forged[0]!r} out of ordinary text, so a user could forge turns; it cannot be used."
        )
    return content, control


class ContentEncoder:
    """Text to ids that hold no control token, and none of the sequences that `forbid` has named."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """`control` maps the spelling of each control token of `tokenizer` to its id.

        Raises ThousandError when its control tokens cannot be kept apart from text.
        """
        self._whole = tokenizer
        self._tokenizer, self.control = _without_control_tokens(tokenizer)
        self._forbidden: dict[int, list[tuple[list[int], str]]] = {}
        self._longest = 0

    def plain(self, text: str) -> list[int]:
        """The ids of text that is trusted."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def forbid(self, marker: str, ids: Sequence[int]) -> None:
        """No content is to yield `ids`, which spell `marker`.

        Raises ThousandError when the tokenizer has no other way to write the marker.
        """
        known = self._forbidden.setdefault(ids[0], [])
        if (list(ids), marker) not in known:
            known.append((list(ids), marker))
            self._longest = max(self._longest, len(marker))
        self.encode(f"{marker}\n")

    def encode(self, text: str) -> list[int]:
        """The ids of a content. Decoded they are `text`, as far as the tokenizer can tell."""
        if not self._forbidden:
            return self.plain(text)
        cuts: set[int] = set()
        for shift in range(1, self._longest + 1):
            ids, starts = self._encode_pieces(text, cuts)
            found = [starts[place] for place, _ in self._found(ids)]
            if not found:
                return ids
            cuts |= {start + shift for start in found}
        raise ThousandError(
            f"This tokenizer writes a turn marker in one way only, so a user could forge turns: {text[:80]!r}."
        )

    def spelled(self, text: str) -> list[str]:
        """The control tokens and markers that `text` holds: what a back end that takes only text must refuse."""
        markers = {marker for known in self._forbidden.values() for _, marker in known if marker in text}
        if self._forbidden:
            markers |= {marker for _, marker in self._found(self.plain(text))}
        read = set(
            self._whole.encode(text, add_special_tokens=False).ids
        )  # a normalizer may make one of other spellings
        control = [spelling for spelling, id_ in self.control.items() if spelling in text or id_ in read]
        return [*control, *sorted(markers)]

    def _encode_pieces(self, text: str, cuts: set[int]) -> tuple[list[int], list[int]]:
        """The ids of the pieces, one after the other, and the character of `text` at which each begins."""
        ids: list[int] = []
        starts: list[int] = []
        edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
        for begin, end in pairwise(edges):
            encoded = self._tokenizer.encode(text[begin:end], add_special_tokens=False)
            ids += encoded.ids
            starts += [begin + start for start, _ in encoded.offsets]
        return ids, starts

    def _found(self, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Where in `ids` a marker begins, and which."""
        for place, first in enumerate(ids):
            for marker_ids, marker in self._forbidden.get(first, ()):
                if ids[place : place + len(marker_ids)] == marker_ids:
                    yield place, marker
