"""The last comparison of a release with the one that it was to replace."""

from pathlib import Path

from assistant.errors import ThousandError
from assistant.release import Release
from evaluation import compare_page
from evaluation.compare import FILE, Comparison
from evaluation.guard import guard
from evaluation.report.blocks import Block, Grid, Section, Words

TITLE = "Compared with another release"


def compared(place: Path, record: Release) -> Section:
    """Every measure of both and their difference, prompt by prompt."""
    command = f"thousand evaluate compare {record.name}"
    if not (place / FILE).exists():
        return Section(TITLE, (), (f"a comparison prompt by prompt: {command}",))
    try:
        found = Comparison.read(record.name)
    except ThousandError as error:
        return Section(TITLE, (), (f"a comparison prompt by prompt: {error}",))
    blocks: list[Block] = [
        Words(
            f"{found.candidate.name} and {found.current.name}, {found.made:%Y-%m-%d}; the difference is paired, prompt by prompt."
        ),
        Grid(compare_page.head(found), compare_page.rows(found)),
        *[Words(f"{one.name}: {one.file}, SHA-256 {one.sha256}.") for one in found.sets],
        *map(Words, compare_page.remarks(found)),
        Words(compare_page.verdict(found, guard(found))),
    ]
    return Section(TITLE, blocks)
