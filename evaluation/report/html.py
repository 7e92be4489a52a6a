"""A report as one HTML page that needs nothing beside it. What a model said is text in it: escaped, and no script could run."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from evaluation.report.blocks import Block, Grid, Items, Picture, Report, Said, Section, Words

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --dim: #5c5c5c; --line: #d9d9d9; --paper: #ffffff;
  --soft: #f5f5f3; --good: #2f7d43; --bad: #b3372c }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --dim: #a5a5a0; --line: #3c3c3a; --paper: #181817;
  --soft: #222220; --good: #6fc686; --bad: #ee8379 } }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 62rem; font: 16px/1.55 system-ui, sans-serif;
  color: var(--ink); background: var(--paper) }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 0 0 .5rem }
p { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere }
a { color: inherit }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; min-width: 5rem;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
th { font-weight: 600; border-bottom-color: var(--dim) }
img { width: 100%; min-width: 36rem; max-width: 62rem; height: auto; background: #ffffff }
ul { padding-left: 1.2rem; max-width: 46rem } li { overflow-wrap: anywhere }
.wide { overflow-x: auto; margin: .6rem 0 }
.made, .missing { color: var(--dim) }
.said { margin: 1rem 0; padding: .8rem 1rem; background: var(--soft); border-left: 4px solid var(--bad) }
.said.good { border-left-color: var(--good) }
.who { margin: .7rem 0 0; font-size: .85rem; color: var(--dim) }
.text { margin: 0; white-space: pre-wrap }
"""


def _grid(grid: Grid) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        return f"<tr>{''.join(f'<{tag}{scope}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    head = f"<thead>{line(grid.head, 'th')}</thead>" if any(grid.head) else ""
    body = "".join(line(row, "td") for row in grid.rows)
    return f'<div class="wide" tabindex="0"><table>{head}<tbody>{body}</tbody></table></div>'


def _said(said: Said) -> str:
    turns = "".join(
        f'<p class="who">{escape(who)}</p><p class="text">{escape(text.strip())}</p>' for who, text in said.turns
    )
    return f'<div class="said{" good" if said.good else ""}"><h3>{escape(said.title)}</h3>{turns}</div>'


def _block(block: Block) -> str:
    match block:
        case Words():
            return f"<p>{escape(block.text)}</p>"
        case Items():
            return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in block.texts)}</ul>"
        case Grid():
            return _grid(block)
        case Picture():
            source = f"data:image/png;base64,{b64encode(block.png).decode()}"
            return f'<div class="wide" tabindex="0"><img alt="{escape(block.alt)}" src="{source}"></div>'
        case Said():
            return _said(block)


def _section(number: int, section: Section) -> list[str]:
    missing = [f'<p class="missing">Not measured: {escape(what)}</p>' for what in section.missing]
    return [f'<h2 id="s{number}">{escape(section.title)}</h2>', *map(_block, section.blocks), *missing]


def html(report: Report) -> str:
    """The page."""
    titles = enumerate(report.sections)
    links = "".join(f'<a href="#s{number}">{escape(section.title)}</a>' for number, section in titles)
    lines = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head><body><main>",
        f'<h1>{escape(report.title)}</h1><p class="made">{escape(report.made)}</p><nav aria-label="Sections">{links}</nav>',
    ]
    for number, section in enumerate(report.sections):
        lines += _section(number, section)
    return "\n".join([*lines, "</main></body></html>"]) + "\n"
