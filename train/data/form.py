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
    r"<\|[^|<>\n]{1,40}\|>|</?s>|<(?:bos|eos|pad|unk|mask|cls|sep|start_of_turn|end_of_turn|start_of_image|end_of_image"
    r"|unused\d+|image_soft_token|endoftext)>|\[multimodal\]|\[/?INST\]|<</?SYS>>|\[(?:CLS|SEP|MASK|PAD|UNK)\]",
    re.IGNORECASE,
)
_BREAKS_OFF = re.compile(r"(?:[,;\u2014(\[{]|\b(?:and|or|the|an|of|with|because|which))\Z", re.IGNORECASE)
_ALLOWED_FORMAT = {"\u200c", "\u200d"}
"""Joiners, which emoji and several scripts are written with."""
NEVER_TOO_LONG = 260
"""Words; the longest that the guide to writing examples asks for."""
FEWEST_FOR_LENGTHS = 20
"""Fewer answers than this in a file say nothing about what is usual there."""


def _table_is_uneven(lines: Sequence[str]) -> bool:
    widths = {len(re.findall(r"(?<!\\)\|", line.strip().strip("|"))) for line in lines if line.strip()}
    return len(widths) > 1


def _structure(text: str, tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    lines = text.split("\n")
    last = 0
    for token in tokens:
        start, end = token.map or (0, 0)
        if token.type == "fence":
            if end - start < 2 or not lines[end - 1].strip().startswith(token.markup):
                yield "fence", f"the code block that begins in line {start + 1} is not closed"
            if not token.info.strip():
                yield "fence-language", f"the code block in line {start + 1} names no language"
        elif token.type == "list_item_open" and token.info:
            number = int(token.info)
            alone = sum(other.type == "list_item_open" and bool(other.info) for other in tokens) == 1
            if alone:  # "3. The last digit ..." is an answer, not a list.
                continue
            if number not in (1, last + 1):
                yield "numbering", f"item {number} comes after {last or 'none'}"
            last = number
        elif token.type == "table_open" and _table_is_uneven(lines[start:end]):
            yield "markdown", f"the table in line {start + 1} has rows of different widths"
        elif token.type == "heading_open" and len(text.split()) < 250:
            yield "heading", f"{lines[start].strip()[:40]!r} in an answer of {len(text.split())} words"
        elif token.type == "inline":
            plain = [child.content for child in token.children or [] if child.type == "text"]
            if any(part.startswith("|") and part.count("|") > 1 for part in plain):
                yield "markdown", f"the table in line {start + 1} is broken"
            for mark in ("**", "`"):
                if any(mark in part for part in plain):
                    yield "markdown", f"{mark} in line {start + 1} is not closed"


def _characters(text: str) -> Iterator[tuple[str, str]]:
    for index, character in enumerate(text):
        bad = (
            unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")
            and character not in "\n\t"
            and character not in _ALLOWED_FORMAT
        )
        if bad or character == "\ufffd":
            yield "control-character", f"U+{ord(character):04X} at character {index + 1}"
            break
    if match := _SPECIAL.search(text):
        yield "special-token", repr(match[0])
    if text != text.strip():
        yield "white-space", "at the beginning or the end"
    elif match := re.search(r"[ \t]+$", text, re.MULTILINE):
        yield "white-space", f"at the end of line {text.count(chr(10), 0, match.start()) + 1}"


def _form_of(entry: Entry) -> Iterator[tuple[str, str]]:
    for text in entry.texts:
        yield from _characters(text)
    for answer in entry.answers:
        yield from _structure(answer, _MARKDOWN.parse(answer))
        if _BREAKS_OFF.search(answer.rstrip()):
            yield "unfinished", f"ends on {answer.rstrip()[-20:]!r}"
    if entry.checks and entry.answers:
        for name in entry.checks.failed(entry.answers[-1]):
            yield "checks", f"the answer fails {name} = {getattr(entry.checks, name)!r}"


def _far_out(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Answers beyond the upper quartile by more than three times the interquartile range (Tukey's outer fence)."""
    lengths: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        lengths[entry.file].extend(len(answer.split()) for answer in entry.answers)
    for entry in entries:
        if len(lengths[entry.file]) < FEWEST_FOR_LENGTHS:
            continue
        low, _, high = quantiles(lengths[entry.file], n=4)
        for answer in entry.answers:
            words = len(answer.split())
            if words > max(NEVER_TOO_LONG, high + 3 * (high - low)):
                yield Finding(
                    entry.where, "length", f"{words} words; three quarters of the answers there have at most {high:.0f}"
                )


def form(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Findings of every rule of this module; Markdown, length and endings are looked at in answers only."""
    for entry in entries:
        for rule, what in _form_of(entry):
            yield Finding(entry.where, rule, what)
    yield from _far_out(entries)
