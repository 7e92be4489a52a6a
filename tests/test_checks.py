"""Checks: each one tells a good answer from a bad one."""

from typing import Any

import pytest
from pydantic import ValidationError

from assistant.checks import Checks


@pytest.mark.parametrize(
    ("checks", "good", "bad"),
    [
        ({"contains_any": ["Tuesday", "day two"]}, "On tuesday.", "On Tuesdays"),
        ({"contains_all": ["a+b", "c"]}, "(a+b) and C", "a+b"),
        ({"not_contains": ["plant"]}, "A transplanted tree", "A plant."),
        ({"max_words": 3}, "one two three", "one two three four"),
        ({"min_words": 2}, "one two", "one"),
        ({"regex": [r"\AYes", r"\.\Z"]}, "Yes, it is.", "Yes, it is"),
        ({"is_json": True}, '{"a": 1}', "{a: 1}"),
        ({"ends_with": "END"}, "the END\n", "END."),
        ({"is_json": True}, "[1]", "[NaN]"),
        ({"contains_any": ["北京"]}, "我住在北京。", "我住在南京。"),
        ({"n_bullets": 2}, "- a\n* b", "- a\n- b\n1. c"),
    ],
)
def test_a_check_tells_good_from_bad(checks: dict[str, Any], good: str, bad: str) -> None:
    parsed = Checks.model_validate(checks)
    assert parsed.failed(good) == []
    assert parsed.failed(bad) == list(checks)


@pytest.mark.parametrize("checks", [{"contains_any": []}, {"contains_all": [""]}, {"regex": "["}, {"words": 3}])
def test_a_check_that_means_nothing_is_refused(checks: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Checks.model_validate(checks)


def test_a_pattern_that_would_try_for_hours_counts_as_not_matched() -> None:
    assert Checks(regex=r"\A(?:a|aa)+\Z").failed("a" * 60 + "b") == ["regex"]
