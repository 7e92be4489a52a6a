"""What training changed, token by token: how much of the release's answers is its base's own first choice."""

from assistant.errors import ThousandError
from assistant.release import Release
from evaluation import shift_page
from evaluation.report.blocks import Block, Grid, Picture, Section, Words
from evaluation.shift_record import folder, read_shift

PICTURES = {
    "positions.png": "Share of shifted tokens by place in the answer",
    "answer.png": "One answer, its shifted tokens coloured",
}


def shift(record: Release) -> Section:
    """The shares, what kinds of tokens shift, where, and one answer."""
    title, command = "What training changed", f"thousand evaluate shift {record.name}"
    try:
        found = read_shift(record.name)
    except ThousandError as error:
        return Section(title, (), (f"the base's own choices among the release's tokens: {error}",))
    if found is None:
        return Section(title, (), (f"the base's own choices among the release's tokens: {command}",))
    place = folder(record.name)
    blocks: list[Block] = [
        Words(f"Every token that the release chooses, looked up in its base, {found.made:%Y-%m-%d}."),
        Grid(shift_page.HEAD, shift_page.rows(found)),
        Grid(shift_page.KIND_HEAD, shift_page.kind_rows(found)),
        *map(Words, shift_page.remarks(found)),
    ]
    for name, alt in PICTURES.items():
        if (place / name).exists():
            blocks.append(Picture(f"shift-{name}", alt, (place / name).read_bytes()))
    return Section(title, blocks)
