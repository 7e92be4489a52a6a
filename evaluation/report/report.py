"""The report of a release, and the files that it is written to."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from assistant import __version__, release
from assistant.errors import ThousandError
from assistant.files import atomic_path, write_text
from assistant.release import Release
from evaluation.report.ablated import ablations
from evaluation.report.answers import answers
from evaluation.report.blocks import Items, Picture, Report, Section
from evaluation.report.compared import compared
from evaluation.report.html import html
from evaluation.report.lineage import lineage, training
from evaluation.report.markdown import markdown
from evaluation.report.scores import SETS, of_set, picture
from evaluation.report.shifted import shift
from evaluation.report.voted import votes

TEXT = "report.md"
NEVER = (
    "What it knows: no set of questions with one true answer is asked, and the checks look for words, not for truth.",
    "Any language but English.",
    "Harm beyond what a rule sees: read the answers to the safety prompts.",
    "More than one answer to a prompt: the intervals of the sets are over prompts, not over draws or training seeds.",
)
"""What no command of this project measures."""


def build(name: str) -> Report:
    """The report of an installed release, of all that was measured until now. A damaged record is named in it, and what is in it is
    missing. Raises ThousandError when the release's own is damaged."""
    place = release.path(name)
    record = release.read(place)
    sections, missing = [], []
    for make in _parts(place, record):
        try:
            section = make()
        except ThousandError as error:
            missing.append(str(error))
            continue
        if section is not None:
            sections.append(section)
            missing += section.missing
    told = [f"{what[0].upper()}{what[1:]}" for what in (*dict.fromkeys(missing), *NEVER)]
    left = Section("What was not measured", [Items(told)])
    made = f"Written {release.now():%Y-%m-%d %H:%M} UTC by Thousand {__version__} from the records of this machine."
    return Report(f"{record.name}: evaluation report", made, [*sections, left])


def _parts(place: Path, record: Release) -> list[Callable[[], Section | None]]:
    return [
        partial(picture, place, record),
        partial(lineage, place, record),
        partial(training, place, record),
        *[partial(of_set, place, record, of) for of in SETS],
        partial(compared, place, record),
        partial(votes, record),
        partial(ablations, record),
        partial(shift, record),
        partial(answers, place, record),
    ]


def write(name: str, folder: Path | None) -> Path:
    """Write the report of a release into a folder, by default its own; returns the HTML page."""
    report = build(name)
    place = folder or release.path(name)
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                with atomic_path(place / block.name) as temporary:
                    temporary.write_bytes(block.png)
    write_text(place / TEXT, markdown(report))
    write_text(place / release.REPORT, html(report))
    return place / release.REPORT
