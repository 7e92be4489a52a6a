"""What a release changed in its base, for people: a table, two pictures, and a page with every answer coloured."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from rich.table import Table

from assistant.files import atomic_path, write_text
from evaluation.shift_record import KINDS, MANNER, NEAR, RECORD, Answer, Compared, Shares, Shift, Token, folder

COLOURS = {"first": "#ffffff", "near": "#ffe3a3", "shifted": "#f2a3a0"}
COLUMNS = 92
"""Characters in a line of the picture."""
OFTENEST = 12
_STYLE = """
body { font: 16px/1.6 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: left; border-bottom: 1px solid #ddd }
.answer { font: 15px/1.8 ui-monospace, monospace; white-space: pre-wrap; border-left: 3px solid #ccc; padding-left: 1em }
.near { background: #ffe3a3 } .shifted { background: #f2a3a0; border-bottom: 2px solid #a3211c } img { max-width: 100% }
"""


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _cells(shares: Shares | None) -> list[str]:
    if shares is None:
        return [""] * 3
    return [
        f"{_percent(one.mean)} [{_percent(one.low)}, {_percent(one.high)}]"
        for one in (shares.first, shares.near, shares.shifted)
    ]


def rows(shift: Shift) -> list[list[str]]:
    """Of each comparison its name and the three shares."""
    return [
        ["the release's choices, in the base after the same prompt", *_cells(shift.same_prompt.shares)],
        ["the same, in the base after three examples (URIAL)", *_cells(shift.with_examples.shares)],
        ["for scale: the reference answers' tokens, in the base", *_cells(shift.text_in_base)],
        ["the reference answers' tokens, in the release", *_cells(shift.text_in_release)],
    ]


HEAD = ("tokens", "first choice", f"among the first {NEAR}", "neither (shifted)")


def kind_rows(shift: Shift) -> list[list[str]]:
    """Of each kind of token how many there are, and how many of them are shifted."""
    found = []
    for kind, what in KINDS.items():
        row = [kind, "manner" if kind in MANNER else "matter", what]
        for side in (shift.same_prompt, shift.with_examples):
            one = next((one for one in side.kinds if one.kind == kind), None)
            shifted = sum(each.shifted for each in side.kinds)
            row += (
                ["", ""]
                if one is None
                else [
                    f"{one.shifted} of {one.places} ({_percent(one.shifted / one.places)})",
                    _percent(one.shifted / shifted) if shifted else "",
                ]
            )
        found.append(row)
    return found


KIND_HEAD = ("kind", "", "what it is", "shifted", "of all shifted", "shifted, after examples", "of all shifted")


def table(shift: Shift) -> Table:
    """For the terminal."""
    shown = Table(*HEAD, box=None)
    for row in rows(shift):
        shown.add_row(*row)
    return shown


def kind_table(shift: Shift) -> Table:
    """What kinds of tokens shift, for the terminal."""
    shown = Table(*KIND_HEAD, box=None)
    for row in kind_rows(shift):
        shown.add_row(*row)
    return shown


def oftenest(shift: Shift) -> str:
    """The choices that are shifted the oftenest after the same prompt."""
    counts = Counter(
        _visible(token.choice) for one in shift.answers for token in one.tokens if token.rank > NEAR
    ).most_common(OFTENEST)
    return ", ".join(f"{text} ({count})" for text, count in counts)


def _visible(text: str) -> str:
    return "END" if not text else text.replace("\n", "⏎").replace(" ", "·")


def _manner(side: Compared) -> str:
    if side.manner is None:
        return "nothing is shifted"
    return f"{_percent(side.manner.mean)} [{_percent(side.manner.low)}, {_percent(side.manner.high)}]"


def remarks(shift: Shift) -> list[str]:
    """What a reader of the numbers must know, a line each."""
    drawn = "greedy" if shift.sampling.temperature == 0 else f"drawn at temperature {shift.sampling.temperature:g}"
    lines = [
        f"{len(shift.answers)} answers of {shift.release} ({drawn}, repetition penalty {shift.sampling.repetition_penalty:g}), {shift.places:,} "
        f"places; base {shift.base}. Means over answers with their 95 % bootstrap intervals.",
        f"Manner among the shifted tokens: {_manner(shift.same_prompt)}; after examples: {_manner(shift.with_examples)}.",
        f"Shifted the oftenest: {oftenest(shift)}",
        f"{_percent(shift.stopped.mean)} of the answers end by themselves, {_percent(shift.repeated.mean)} of their word 4-grams occurred "
        f"before (a loop is easy to foresee), and at {_percent(shift.as_written.mean)} of the places the release's first choice is what "
        "stands there.",
    ]
    return lines + [f"left out: {one}" for one in shift.left_out]


def _class(token: Token) -> str:
    return "first" if token.rank == 1 else "near" if token.rank <= NEAR else "shifted"


def _coloured(answer: Answer) -> str:
    spans = []
    for token in answer.tokens:
        title = f"chosen {_visible(token.choice)}, rank {token.rank} in the base, which has {_visible(token.base)}"
        title += f"; rank {token.rank_with_examples} after examples; {token.kind}"
        text = escape(token.text) if token.text else "■"
        spans.append(f'<span class="{_class(token)}" title="{escape(title)}">{text}</span>')
    return f'<p><b>{escape(answer.prompt)}</b></p><div class="answer">{"".join(spans)}</div>'


def _html_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in body)}</table>"


def html(shift: Shift) -> str:
    """The page, which needs nothing but the two pictures beside it."""
    others = [one for one in shift.answers if one.id != shift.shown]
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(shift.release)}: what training changed</title>',
        f"<style>{_STYLE}</style><h1>What training changed: {escape(shift.release)}</h1>",
        f"<p>{shift.made:%Y-%m-%d}, version {escape(shift.version)}. Every token that the release chooses, looked up in its base.</p>",
        _html_table(HEAD, rows(shift)),
        *[f"<p>{escape(remark)}</p>" for remark in remarks(shift)],
        "<h2>Manner or matter</h2>",
        _html_table(KIND_HEAD, kind_rows(shift)),
        '<h2>By place in the answer</h2><img src="positions.png" alt="Share of shifted tokens by place in the answer">',
        f'<h2>Answers</h2><p><span class="near">second or third choice of the base</span>, <span class="shifted">neither</span>; the rest is its '
        f"first choice. ■ is the end. Point at a token for its rank.</p>{_coloured(shift.answer)}",
        *map(_coloured, others),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def plot_positions(shift: Shift, target: Path) -> None:
    """The share of shifted tokens by place in the answer, with intervals, as a PNG."""
    figure, axes = pyplot.subplots(figsize=(7, 3.6), dpi=120, layout="constrained")
    for side, label, colour in (
        (shift.same_prompt, "base after the same prompt", "#a3211c"),
        (shift.with_examples, "base after three examples", "#1f4e79"),
    ):
        means = [span.shifted.mean for span in side.spans]
        spread = [
            [span.shifted.mean - span.shifted.low for span in side.spans],
            [span.shifted.high - span.shifted.mean for span in side.spans],
        ]
        axes.errorbar(range(len(means)), means, yerr=spread, marker="o", color=colour, label=label, capsize=3)
    names = [
        str(span.first) if span.first == span.last else f"{span.first}-{span.last if span.last < 1 << 20 else ''}"
        for span in shift.same_prompt.spans
    ]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("token of the answer")
    axes.set_ylabel("shifted")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    axes.set_title(f"{shift.release}: choices that are not among the base's first {NEAR}", fontsize=9)
    _save(figure, target)


def _lines(answer: Answer) -> list[list[tuple[str, str]]]:
    """The answer's pieces with their classes, broken into lines."""
    lines: list[list[tuple[str, str]]] = [[]]
    width = 0
    for token in answer.tokens:
        first, *others = (token.text or "■").split("\n")
        pieces = [first + ("⏎" if others else ""), *[f"{piece}⏎" for piece in others[:-1]], *others[-1:]]
        for number, piece in enumerate(pieces):
            if number or (width and width + len(piece) > COLUMNS):
                lines.append([])
                width = 0
            for start in range(0, len(piece), COLUMNS):
                lines[-1].append((piece[start : start + COLUMNS], _class(token)))
            width += len(piece)
    return lines


def _draw(axes: Axes, number: int, line: Sequence[tuple[str, str]], size: float) -> None:
    column = 0
    for text, kind in line:
        axes.add_patch(Rectangle((column, number + 0.08), len(text), 0.84, color=COLOURS[kind], linewidth=0))
        weight = "bold" if kind == "shifted" else "normal"
        axes.text(
            column,
            number + 0.5,
            text,
            family="DejaVu Sans Mono",
            fontsize=size,
            weight=weight,
            va="center",
            parse_math=False,
        )
        column += len(text)


def plot_answer(shift: Shift, target: Path) -> None:
    """One answer with its tokens coloured by their ranks in the base, as a PNG."""
    answer = shift.answer
    lines = [[(f"> {answer.prompt}"[:COLUMNS].replace("\n", " "), "first")], [], *_lines(answer), []]
    lines.append([("2nd or 3rd choice of the base", "near"), ("  ", "first"), ("neither", "shifted")])
    width = 11.0
    height = 0.26 * len(lines) + 0.2
    figure, axes = pyplot.subplots(figsize=(width, height), dpi=120)
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.1 / height, bottom=0.1 / height)
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(len(lines), 0)
    axes.axis("off")
    size = width * 0.98 * 72 / COLUMNS / 0.602  # a letter of DejaVu Sans Mono is 0.602 of its size wide
    for number, line in enumerate(lines):
        _draw(axes, number, line, size)
    _save(figure, target)


def _save(figure: Figure, target: Path) -> None:
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png")
    pyplot.close(figure)


def write_report(shift: Shift) -> Path:
    """The pictures, the page and the record, into the release's folder; returns that."""
    place = folder(shift.release)
    plot_positions(shift, place / "positions.png")
    plot_answer(shift, place / "answer.png")
    write_text(place / "shift.html", html(shift))
    write_text(place / RECORD, shift.model_dump_json() + "\n")
    return place
