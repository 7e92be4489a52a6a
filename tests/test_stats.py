"""`thousand data stats`: its numbers mean what they say, and sets stand side by side."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Command
from train.data.stats import distinct, form_of, mean_similarity, nearest, style

pytestmark = pytest.mark.usefixtures("real_home")


def write(file: Path, pairs: list[tuple[str, str]], topic: str = "t") -> Path:
    file.parent.mkdir(exist_ok=True)
    rows = [
        {"topic": topic, "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in pairs
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_two_sources_of_one_name_stand_side_by_side_and_the_picture_is_drawn(
    thousand: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # two whole paths may be wider than the table
    write(tmp_path / "a" / "mine.jsonl", [("Why?", "So."), ("Is rain wet?", "1. Yes\n2. It is")], "[/red] [b]tags")
    write(tmp_path / "b" / "mine.jsonl", [(f"What is {n} plus {n}?", f"It is {2 * n}.") for n in range(6)])
    picture = tmp_path / "map.png"
    result = thousand("data", "stats", "a/mine.jsonl", "b/mine.jsonl", "--picture", picture)
    assert result.code == 0, result.err
    lines = [line.split() for line in result.out.splitlines()]
    assert ["lines", "2", "6"] in lines
    assert ["numbered", "list", "50.0%", "0.0%"] in lines
    assert ["a/mine.jsonl", "b/mine.jsonl"] in lines
    assert "[/red] [b]tags 2" in result.out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_single_line_has_statistics_and_a_picture_too(thousand: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "one" / "mine.jsonl", [("Why?", "So.")])
    result = thousand("data", "stats", file, "--picture", tmp_path / "map.png")
    assert result.code == 0, result.err
    assert "nan" not in result.out


def test_lines_that_cannot_be_read_are_reported(thousand: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("{}\n[]\n")
    result = thousand("data", "stats", file)
    assert result.code == 1
    assert f"{file}:1: messages: is missing" in result.err
    assert f"{file}:2: is a JSON list" in result.err


def test_similarities_are_those_of_all_pairs() -> None:
    vectors = np.random.default_rng(0).normal(size=(2500, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    off_diagonal = cosines[~np.eye(len(vectors), dtype=bool)]
    assert mean_similarity(vectors) == pytest.approx(float(off_diagonal.mean()), abs=1e-5)
    np.fill_diagonal(cosines, -1)
    np.testing.assert_allclose(nearest(vectors), cosines.max(axis=1), atol=1e-6)


def test_distinct_n_grams() -> None:
    assert distinct(["a b c d"], 1) == 1
    assert distinct(["a b a b"], 1) == 0.5
    assert distinct(["a b", "A, b!"], 2) == pytest.approx(2 / 3)


def test_a_mixed_manner_has_larger_deviations_than_a_uniform_one() -> None:
    short = "It is so, I say. " * 20
    long = (
        "When all the rivers that we had followed (some of them for many days) came together at last they slowed down "
        * 4
    )
    uniform, mixed = style([short] * 6), style([short, long] * 3)
    assert uniform["words in a sentence"] == (5.0, 0.0)
    assert all(mixed[name][1] > uniform[name][1] for name in uniform)
    assert style(["Too short."] * 5) == {}


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("It is so.", "prose"),
        ("1. One\n2. Two", "numbered list"),
        ("- a\n- b", "bullets"),
        ("| a |\n|---|\n| b |", "table"),
        ("```sh\nls\n```", "code"),
        ('{"a": 1}', "JSON"),
        ("Rain on the roof\nand the cat\nasleep", "short lines"),
    ],
)
def test_forms(answer: str, form: str) -> None:
    assert form_of(answer) == form
