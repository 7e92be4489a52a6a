"""The rules on wording against 200 answers of real dumps that a reader labelled.

The labels hold no text: site, number, a hash of the HTML, and two judgements. The reader saw of each answer what
`excerpt` gives, its beginning and its end without code and quotations, and the words of its links that say nothing.
The dumps are looked for beside the project's folder.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.jsonl import Problem
from train.data.curate.markdown import Clean, clean
from train.data.curate.phrases import HIDDEN_LINK
from train.data.curate.rows import blocks, rows
from train.data.curate.rules import Exchange, first_person, other_answers, prose, the_site, unseen

LABELS = Path(__file__).parent / "labels" / "answers.tsv"
DUMPS = Path(__file__).parent.parent.parent / "shared" / "stackexchange"
EMPTY = Clean("", (), ())


def labels() -> list[dict[str, str]]:
    with LABELS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def excerpt(html: str) -> Exchange:
    """What the reader saw of an answer."""
    whole = clean(html)
    text = " ".join(prose(whole.text).split())
    seen = text if len(text) <= 610 else f"{text[:430]} ~~ {text[-180:]}"
    return Exchange("", EMPTY, Clean(seen, tuple(filter(HIDDEN_LINK.fullmatch, whole.links)), ()))


def refers(exchange: Exchange) -> str | None:
    return other_answers(exchange) or the_site(exchange) or unseen(exchange)


def answers() -> dict[tuple[str, str], str]:
    """The HTML of every answer of the dumps by site and number."""
    found = {}
    for file in DUMPS.glob("*/Posts.xml"):
        with file.open("rb") as stream:
            for block in blocks(stream, str(file)):
                assert not isinstance(block, Problem)
                for row in rows(block, str(file), []):
                    found[file.parent.name, row.values["Id"]] = row.values["Body"]
    return found


def test_there_are_labels_of_both_kinds() -> None:
    kinds = Counter((label["first person"], label["reference"]) for label in labels())
    assert kinds.total() == 200
    assert min(kinds.values()) > 20


@pytest.mark.skipif(not DUMPS.is_dir(), reason="the dumps that were labelled are not here")
@pytest.mark.parametrize(
    ("name", "rule", "precision", "recall"),
    [("first person", first_person, 0.95, 0.98), ("reference", refers, 0.9, 0.9)],
)
def test_precision_and_recall(
    name: str, rule: Callable[[Exchange], str | None], precision: float, recall: float
) -> None:
    texts = answers()
    hits: Counter[tuple[bool, bool]] = Counter()
    wrong = []
    for label in labels():
        html = texts[label["site"], label["answer"]]
        assert hashlib.sha256(html.encode()).hexdigest()[:12] == label["sha256 of its HTML"]
        found = rule(excerpt(html))
        hits[found is not None, label[name] == "1"] += 1
        if (found is not None) != (label[name] == "1"):
            wrong.append(f"{label['site']} {label['answer']}: {label[name]} but {found}")
    right = hits[True, True]
    assert right / (right + hits[True, False]) >= precision, "\n".join(wrong)
    assert right / (right + hits[False, True]) >= recall, "\n".join(wrong)
