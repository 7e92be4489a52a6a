"""A report as Markdown, with its pictures as files beside it. What a model said stands in code blocks, so that none of it is markup."""

import re
from html import escape

from evaluation.report.blocks import Block, Grid, Items, Picture, Report, Said, Words
from evaluation.tables import markdown_table


def _plain(text: str) -> str:
    """On one line, with nothing in it that a reader would take for a tag."""
    return escape(" ".join(text.split()), quote=False)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _fenced(text: str) -> list[str]:
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", text.strip(), fence]


def _block(block: Block) -> list[str]:
    match block:
        case Words():
            return [_plain(block.text)]
        case Items():
            return [f"- {_plain(text)}" for text in block.texts]
        case Grid():
            return markdown_table(
                [_cell(cell) for cell in block.head], [[_cell(cell) for cell in row] for row in block.rows]
            )
        case Picture():
            return [f"![{block.alt}]({block.name})"]
        case Said():
            lines = [f"### {_plain(block.title)}"]
            for who, text in block.turns:
                lines += ["", f"**{_plain(who)}**", "", *_fenced(text)]
            return lines


def markdown(report: Report) -> str:
    """The page."""
    lines = [f"# {report.title}", "", report.made]
    for section in report.sections:
        lines += ["", f"## {section.title}"]
        for block in section.blocks:
            lines += ["", *_block(block)]
        for what in section.missing:
            lines += ["", f"Not measured: {_plain(what)}"]
    return "\n".join(lines) + "\n"
