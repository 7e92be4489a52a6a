"""Words and runs of words, in any script: what texts are compared by."""

from collections.abc import Sequence

import regex

_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts written without spaces between words; there each character, with its marks, is taken for a word."""
_WORD = rf"[{_SCRIPTS}]\p{{M}}*|[[\w\p{{M}}]--[{_SCRIPTS}]]+"
_WORDS = regex.compile(_WORD, regex.VERSION1)
_TOKENS = regex.compile(rf"{_WORD}|[^\w\s]", regex.VERSION1)
_ENDS = regex.compile(r"^[\s\p{P}]+|[\s.!?,;:\u3002\uff01\uff1f]+$", regex.VERSION1)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, whatever their case, without punctuation."""
    return tuple(_WORDS.findall(text.casefold()))


def tokens_of(text: str) -> tuple[str, ...]:
    """The words and signs of a text, whatever their case: `C++` is not `C`, and `7+5` not `7-5`."""
    return tuple(_TOKENS.findall(text.casefold()))


def normal(text: str) -> str:
    """A text whatever its case, white space, and the signs at its ends: equal ones say the same."""
    bare = _ENDS.sub("", text.casefold()) or text.casefold()
    return " ".join(bare.replace("\u2019", "'").split())


def runs(words: Sequence[str], n: int) -> set[str]:
    """All runs of `n` words; the whole text where it has fewer; nothing where it has none."""
    if not words:
        return set()
    return {" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


def mostly_latin(text: str) -> bool:
    """Whether most of a text's letters are Latin."""
    letters = regex.findall(r"\p{L}", text)
    return 2 * len(regex.findall(r"\p{Latin}", text)) >= len(letters)
