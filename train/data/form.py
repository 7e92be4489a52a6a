"""Rules on the form of a text: Markdown, numbering, characters, length, and the checks an answer must satisfy."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import quantiles

from markdown_it import MarkdownIt
from markdown_it.token import Token

from train.data.corpus import Entry
from train.data.finding import Finding, Rule

RULES = (
    Rule("checks", "error", "answers that fail the line's own checks"),
    Rule("fence", "error", "code blocks that are not closed"),
    Rule("fence-language", "warning", "code blocks that do not name their language"),
    Rule("markdown", "error", "broken tables, emphasis or inline code left open"),
    Rule("numbering", "error", "numbered lists that skip or repeat a number"),
    Rule("heading", "warning", "headings in an answer under 250 words"),
    Rule("control-character", "error", "control, invisible and replacement characters"),
    Rule("special-token", "error", "the spelling of a control token of some model"),
    Rule("white-space", "error", "white space around a text or at a line's end"),
    Rule("unfinished", "error", "answers that break off"),
    Rule("length", "warning", "answers far longer than the others in their file"),
)

_MARKDOWN = MarkdownIt("commonmark").enable("table")
_SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|</s>|<(?:bos|eos|pad|unk|cls|sep|start_of_turn|end_of_turn|start_of_image|end_of_image"
    r"|unused\d+|image_soft_token|endoftext)>|\[multimodal\]|\[/?INST\]|<</?SYS>>|\[(?:CLS|SEP|MASK|PAD|UNK)\]",
    re.IGNORECASE,
)
_STRUCK_OUT = re.compile(r"<s>.*?</s>", re.DOTALL)
_BREAKS_OFF = re.compile(r"(?:[,:(\[{\u3001\uff0c\uff1a\u060c]|\b(?:and|or|the|an|because|however))\Z", re.IGNORECASE)
_TABLE_LINES = re.compile(r"^\s*\|.*\|\s*$\n^\s*\|", re.MULTILINE)
_OPEN_BOLD = re.compile(r"(?<![\w/])\*\*(?=[^\W\d])|(?<=[^\W\d])\*\*(?![\w/])")
_JOINERS = "\u200c\u200d"
_DIRECTIONS = "\u061c\u200e\u200f\u2066\u2067\u2068\u2069"
_ARABIC_SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd"
_ALLOWED_FORMAT = frozenset(_JOINERS + _DIRECTIONS + _ARABIC_SIGNS) | {chr(code) for code in range(0xE0020, 0xE0080)}
"""Invisible characters that emoji, flags and scripts are written with."""
NEVER_TOO_LONG = 260
"""Words; the longest that the guide to writing examples asks for."""
FEWEST_FOR_LENGTHS = 20
"""Fewer answers than this in a file say nothing about what is usual there."""


def _table_is_uneven(lines: Sequence[str]) -> bool:
    rows = [line.strip().removeprefix("|").removesuffix("|") for line in lines if line.strip()]
    return len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) > 1


def _numbering(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Within one list each number must follow the one before; where a list begins is free."""
    lists: list[int | None] = []
    for token in tokens:
        if token.type.endswith("_list_open"):
            lists.append(None)
        elif token.type.endswith("_list_close"):
            lists.pop()
        elif token.type == "list_item_open" and token.info:
            number, before = int(token.info), lists[-1]
            if before is not None and number != before + 1:
                yield "numbering", f"item {number} comes after {before}"
            lists[-1] = number


def _structure(text: str) -> Iterator[tuple[str, str]]:
    tokens = _MARKDOWN.parse(text)
    lines = re.split(r"\r\n?|\n", text)
    yield from _numbering(tokens)
    for token in tokens:
        start, end = token.map or (0, 0)
        if token.type == "fence":
            last = lines[end - 1].lstrip("> \t").rstrip()
            if end - start < 2 or set(last) != set(token.markup) or len(last) < len(token.markup):
                yield "fence", f"the code block that begins in line {start + 1} is not closed"
            if not token.info.strip():
                yield "fence-language", f"the code block in line {start + 1} names no language"
        elif token.type == "table_open" and _table_is_uneven(lines[start:end]):
            yield "markdown", f"the table in line {start + 1} has rows of different widths"
        elif token.type == "heading_open" and len(text.split()) < 250:
            yield "heading", f"{lines[start].strip()[:40]!r} in an answer of {len(text.split())} words"
        elif token.type == "inline":
            plain = [child.content for child in token.children or [] if child.type == "text"]
            if _TABLE_LINES.search(token.content):
                yield "markdown", f"the table in line {start + 1} is broken"
            if any(_OPEN_BOLD.search(part) for part in plain):
                yield "markdown", f"** in line {start + 1} is not closed"
            if any(part.count("`") == 1 for part in plain):
                yield "markdown", f"` in line {start + 1} is not closed"


def _is_hidden(character: str) -> bool:
    code = ord(character)
    noncharacter = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return (
        (unicodedata.category(character) in ("Cc", "Cf", "Co", "Zl", "Zp") or noncharacter or character == "\ufffd")
        and character not in "\n\t"
        and character not in _ALLOWED_FORMAT
    )


def _characters(text: str) -> Iterator[tuple[str, str]]:
    hidden = next((index for index, character in enumerate(text) if _is_hidden(character)), None)
    if hidden is not None:
        yield "control-character", f"U+{ord(text[hidden]):04X} at character {hidden + 1}"
    if match := _SPECIAL.search(_STRUCK_OUT.sub(" ", text)):
        yield "special-token", repr(match[0])
    if text != text.strip():
        yield "white-space", "at the beginning or the end"
    elif match := re.search(r"(?<![ \t])[ \t]+$", text, re.MULTILINE):
        yield "white-space", f"at the end of line {text.count(chr(10), 0, match.start()) + 1}"


def _form_of(entry: Entry) -> Iterator[tuple[str, str]]:
    for text in entry.texts:
        yield from _characters(text)
    for answer in entry.answers:
        yield from _structure(answer)
        if _BREAKS_OFF.search(answer.rstrip()):
            yield "unfinished", f"ends on {answer.rstrip()[-20:]!r}"
    if entry.checks and entry.answered:
        for name in entry.checks.failed(entry.answers[-1]):
            yield "checks", f"the answer fails {name} = {getattr(entry.checks, name)!r}"


def _far_out(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Answers beyond the upper quartile by more than three times the interquartile range (Tukey's outer fence)."""
    lengths: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        lengths[entry.file].extend(len(answer.split()) for answer in entry.answers)
    fences: dict[str, tuple[float, float]] = {}
    for file, found in lengths.items():
        if len(found) >= FEWEST_FOR_LENGTHS:
            low, _, high = quantiles(found, n=4)
            fences[file] = (high, max(NEVER_TOO_LONG, high + 3 * (high - low)))
    for entry in entries:
        high, fence = fences.get(entry.file, (0.0, float("inf")))
        for answer in entry.answers:
            words = len(answer.split())
            if words > fence:
                yield Finding(
                    entry.where, "length", f"{words} words; three quarters of the answers there have at most {high:.0f}"
                )


def form(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Findings of every rule of this module; Markdown, length and endings are looked at in answers only."""
    for entry in entries:
        for rule, what in _form_of(entry):
            yield Finding(entry.where, rule, what)
    yield from _far_out(entries)
