"""What votes say: shares with their intervals, a test of which system is preferred, and how far voters agree."""

from collections.abc import Mapping, Sequence
from math import comb
from typing import Literal

import numpy as np

from evaluation.intervals import Interval, Z
from evaluation.voting.scale import NEITHER

VALUES = {"first": 1.0, NEITHER: 0.5, "second": 0.0}
"""Of a vote on a pair: how much of it is the first system's."""


def _decided(values: Sequence[float]) -> tuple[int, int]:
    return sum(value > 0.5 for value in values), sum(value < 0.5 for value in values)


def ahead(values: Sequence[float]) -> Literal["first", "second"] | None:
    """Which system won on more prompts (`values` as in VALUES, or a mean of those); None when neither did."""
    won, lost = _decided(values)
    return None if won == lost else "first" if won > lost else "second"


def sign_test(values: Sequence[float]) -> float | None:
    """How likely votes that are as uneven or more are when neither system is better: the exact two-sided sign test over the prompts
    on which there is a winner (`values` as in VALUES, or a mean of those); None when there is no such prompt."""
    won, lost = _decided(values)
    decided = won + lost
    return min(1.0, 2 * sum(comb(decided, k) for k in range(min(won, lost) + 1)) / 2**decided) if decided else None


def agreement(one: Mapping[str, str], other: Mapping[str, str]) -> Interval | None:
    """Tie-discounted accuracy of two voters over what both voted on, as in the paper: 1 where they agree, 0.5 where exactly one says
    that neither is better, else 0. None when they share nothing."""
    shared = [(one[key], other[key]) for key in one if key in other]
    if not shared:
        return None
    return Interval.of_share([1.0 if a == b else 0.5 if NEITHER in (a, b) else 0.0 for a, b in shared])


def at_equal_length(values: Sequence[float], longer: Sequence[int]) -> Interval | None:
    """The first system's share of the votes if answers were equally long, with its 95 % interval.

    AlpacaEval's length-controlled rate (Dubois et al. 2024, arXiv 2404.04475) for two systems: a logistic regression of the vote on
    an intercept and tanh of the difference in length over its standard deviation, read where that is 0; a tie is half a vote each
    way. Their term for the prompt's difficulty is left out: it needs votes on many systems. The slope has a weak prior (L2, C = 1), without
    which few votes have no finite fit. `longer` is by how many characters the first system's answer is longer. None when only one of
    the two got any vote, or all answers differ by the same.
    """
    from sklearn.linear_model import LogisticRegression

    apart = np.asarray(longer, dtype=float)
    first = np.asarray(values, dtype=float)
    if apart.std() == 0 or first.sum() in (0, len(first)):
        return None
    length = np.tanh(apart / apart.std())[:, None]
    n = len(first)
    fitted = LogisticRegression(C=1.0).fit(
        np.vstack([length, length]), np.repeat([1, 0], n), sample_weight=np.concatenate([first, 1 - first])
    )
    design = np.hstack([np.ones((n, 1)), length])
    chance = fitted.predict_proba(length)[:, 1]
    information = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag([0.0, 1.0])
    centre, error = float(fitted.intercept_[0]), float(np.linalg.inv(information)[0, 0] ** 0.5)
    mean, low, high = (
        round(float(1 / (1 + np.exp(-at))), 4) for at in (centre, centre - Z * error, centre + Z * error)
    )
    return Interval(mean=mean, low=low, high=high)
