"""The rules on wording against 200 answers of real dumps that a reader labelled; `labels/README.md` says whose they are."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from assistant.provenance import Work
from train.data.curate.markdown import Clean, clean
from train.data.curate.phrases import HIDDEN_LINK
from train.data.curate.rules import Exchange, first_person, other_answers, prose, the_site, unseen

LABELS = Path(__file__).parent / "labels" / "answers.jsonl"
EMPTY = Clean("", (), ())


class Labelled(NamedTuple):
    credit: Work
    html: str
    first_person: bool
    refers: bool


def labelled() -> list[Labelled]:
    found = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    return [Labelled(**one | {"credit": Work.model_validate(one["credit"])}) for one in found]


def excerpt(html: str) -> Exchange:
    """What the reader saw of an answer."""
    whole = clean(html)
    text = " ".join(prose(whole.text).split())
    seen = text if len(text) <= 610 else f"{text[:430]} ~~ {text[-180:]}"
    return Exchange("", EMPTY, Clean(seen, tuple(filter(HIDDEN_LINK.fullmatch, whole.links)), ()))


def refers(exchange: Exchange) -> str | None:
    return other_answers(exchange) or the_site(exchange) or unseen(exchange)


def test_there_are_answers_of_both_kinds_each_with_its_credit() -> None:
    answers = labelled()
    kinds = Counter((answer.first_person, answer.refers) for answer in answers)
    assert kinds.total() == len({answer.credit.url for answer in answers}) == 200
    assert min(kinds.values()) > 20
    assert all(answer.credit.author and answer.credit.author_url for answer in answers)
    assert {answer.credit.license for answer in answers} == {"CC-BY-SA-3.0", "CC-BY-SA-4.0"}


@pytest.mark.parametrize(
    ("name", "rule", "precision", "recall"),
    [("first_person", first_person, 0.95, 0.98), ("refers", refers, 0.9, 0.9)],
)
def test_precision_and_recall(
    name: str, rule: Callable[[Exchange], str | None], precision: float, recall: float
) -> None:
    hits: Counter[tuple[bool, bool]] = Counter()
    wrong = []
    for answer in labelled():
        found, label = rule(excerpt(answer.html)), getattr(answer, name)
        hits[found is not None, label] += 1
        if (found is not None) != label:
            wrong.append(f"{answer.credit.url}: {label} but {found}")
    right = hits[True, True]
    assert right / (right + hits[True, False]) >= precision, "\n".join(wrong)
    assert right / (right + hits[False, True]) >= recall, "\n".join(wrong)
