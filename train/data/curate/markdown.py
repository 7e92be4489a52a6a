"""The HTML of a post as clean Markdown: code, lists and tables stay; links, images and everything else go."""

import html as entities
import re
import warnings
from typing import Any, NamedTuple

from bs4 import MarkupResemblesLocatorWarning
from markdownify import MarkdownConverter

MOST_HTML = 150_000
"""Characters that are looked at. A post may have 30,000 of Markdown, and a sign becomes up to five in HTML."""
_IMAGE = "\ufffc"
_RAISED = str.maketrans("0123456789+-=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-=()", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎")
FENCE = re.compile(r"(^[ \t]*(`{3,})[^\n]*\n.*?^[ \t]*\2[ \t]*$)", re.MULTILINE | re.DOTALL)
_MARKED = re.compile(
    r"(?P<code>`[^`\n]+`)"
    r"|!\[[^\]\n]*\]\([^)\n]*\)"
    r"|(?<!\!)\[(?P<words>[^\]\n]+)\](?:\((?!#)[^)\s]*(?:\s+[\"'][^)\n]*)?\)|\[[\w .-]*\])"
    r"|^[ \t]*\[[^\]\n]+\]:[ \t]*\S+[^\n]*$",
    re.MULTILINE,
)
"""In Markdown: code, pictures, links of both kinds, and where the second kind leads."""
_LINE_END = re.compile(r"[ \t]+$", re.MULTILINE)
_LANGUAGE = re.compile(r"\blang(?:uage)?-([\w+#]+)")

warnings.filterwarnings("ignore", category=MarkupResemblesLocatorWarning)


class Clean(NamedTuple):
    """A post without its markup."""

    text: str
    links: tuple[str, ...]
    """The words that were links."""
    pictures: tuple[str, ...]
    """The words that led up to a picture with a colon."""


class _Converter(MarkdownConverter):
    links: list[str]

    class Options:
        heading_style = "atx"
        bullets = "-"
        escape_asterisks = False
        escape_underscores = False
        escape_misc = False
        strip = ("script", "style", "iframe", "kbd", "span", "div")

    def process_text(self, el: Any, parent_tags: set[str] | None = None) -> str:
        text = str(super().process_text(el, parent_tags=parent_tags))  # type: ignore[misc]
        # A line's end in HTML is a space; only <br> and <pre> break lines.
        return text if not text.strip() or "pre" in (parent_tags or ()) else " ".join(text.split("\n"))

    def convert_a(self, el: Any, text: str, parent_tags: set[str]) -> str:
        self.links.append(" ".join(text.replace(_IMAGE, "").split()))
        return text

    def convert_img(self, el: Any, text: str, parent_tags: set[str]) -> str:
        return _IMAGE

    def convert_br(self, el: Any, text: str, parent_tags: set[str]) -> str:
        return "\n"

    def convert_sup(self, el: Any, text: str, parent_tags: set[str]) -> str:
        raised = text.translate(_RAISED)
        return raised if not re.search(r"[\x21-\x7e]", raised) else f"^({text})" if len(text) < 9 else text

    def convert_sub(self, el: Any, text: str, parent_tags: set[str]) -> str:
        lowered = text.translate(_LOWERED)
        return lowered if not re.search(r"[\x21-\x7e]", lowered) else f"_{text}" if len(text) < 4 else text

    def convert_pre(self, el: Any, text: str, parent_tags: set[str]) -> str:
        code = el.get_text().strip("\n")
        longest = max(map(len, re.findall(r"`+", code)), default=0)
        fence = "`" * max(3, longest + 1)
        code_el = el.find("code")
        classes = " ".join([*el.get("class", []), *(code_el.get("class", []) if code_el else [])])
        language = _LANGUAGE.search(classes)
        return f"\n\n{fence}{language[1] if language else ''}\n{code}\n{fence}\n\n" if code.strip() else ""


def clean(html: str) -> Clean:
    """A post's HTML as Markdown. Raises ValueError when it is too long, or nested too deeply to be read."""
    if len(html) > MOST_HTML:
        raise ValueError(f"has {len(html):,} characters of HTML")
    converter = _Converter()
    converter.links = []
    try:
        text = converter.convert(html)
    except RecursionError:
        raise ValueError("its HTML is nested too deeply") from None
    return _finished(text, converter.links)


def clean_markdown(text: str) -> Clean:
    """A text in Markdown, or in none, without links and pictures; code stays as it is."""
    links: list[str] = []

    def bare(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        if match["words"]:
            links.append(" ".join(match["words"].split()))
            return match["words"]
        return _IMAGE if match[0].startswith("!") else ""

    parts = FENCE.split("\n".join(text.splitlines()).strip())
    kept = [parts[0], *(part for i in range(1, len(parts), 3) for part in (parts[i], parts[i + 2]))]
    plain = [part if number % 2 else _MARKED.sub(bare, entities.unescape(part)) for number, part in enumerate(kept)]
    return _finished("".join(plain), links)


def _finished(text: str, links: list[str]) -> Clean:
    before = [part.rstrip() for part in text.split(_IMAGE)[:-1]]
    pictures = [part[part.rfind("\n") + 1 :] for part in before if part.endswith(":")]
    parts = FENCE.split(text.replace(_IMAGE, ""))
    # Of a split by two groups every third part is what stands between the fences.
    kept = [parts[0], *(part for i in range(1, len(parts), 3) for part in (parts[i], parts[i + 2]))]
    tidy = [_LINE_END.sub("", part) if number % 2 else _tidy(part) for number, part in enumerate(kept)]
    return Clean("".join(tidy).strip(), tuple(links), tuple(pictures))


def _tidy(prose: str) -> str:
    """Prose without white space at line ends and with at most one empty line."""
    prose = re.sub(r"[ \t\u00a0]+$", "", prose.replace("\u200b", "").replace("\xa0", " "), flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", prose)
