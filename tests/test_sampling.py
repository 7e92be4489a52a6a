"""Sampling: values mean what they say, and the draw follows the paper's order."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from assistant.sampling import Sampling
from serve.engines.pytorch import next_token
from serve.wire import ChatRequest

STOP = 3


def draw(logits: list[float], generated: list[int], seed: int = 0, **settings_: Any) -> int:
    random = torch.Generator().manual_seed(seed)
    sampling = Sampling.model_validate({"temperature": 1, "top_p": 1, "repetition_penalty": 1, **settings_})
    return next_token(torch.tensor(logits), generated, STOP, sampling, random)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("top_p", 1.01),
        ("repetition_penalty", 0.5),
        ("max_tokens", 0),
        ("seed", -1),
    ]
    + [("temperature", float("nan")), ("stop", [""]), ("stop", ["x"] * 9), ("temprature", 1)],
)
def test_a_value_outside_its_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Sampling.model_validate({field: value})


def test_truth_7_zero_means_zero_and_one_means_one_on_the_wire() -> None:
    body = {"temperature": 0, "top_p": 0, "repetition_penalty": 1, "seed": 0, "max_tokens": 1}
    request = ChatRequest.model_validate({"model": "thousand", "messages": [{"role": "user", "content": "x"}], **body})
    assert [sampling.model_dump(include=set(body)) for sampling in request.samplings(Sampling())] == [body]


def test_truth_7_temperature_zero_takes_the_likeliest_token() -> None:
    assert {draw([1.0, 1.1, 0.9], [], seed, temperature=0) for seed in range(20)} == {1}


def test_truth_7_top_p_zero_keeps_only_the_likeliest_token() -> None:
    assert {draw([1.0, 1.1, 0.9], [], seed, top_p=0) for seed in range(20)} == {1}


def test_truth_7_the_same_seed_gives_the_same_token_and_no_global_state_is_touched() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert draw([0.0] * 50, [], seed=0) == draw([0.0] * 50, [], seed=0)
    assert len({draw([0.0] * 50, [], seed=seed) for seed in range(10)}) > 1
    assert torch.equal(before, torch.get_rng_state())


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).tolist()
    assert {draw(logits, [], seed, top_p=0.79) for seed in range(200)} == {0, 1}
    assert {draw(logits, [], seed, top_p=0.81) for seed in range(200)} == {0, 1, 2}


@given(
    logits=st.lists(st.floats(-5, 5), min_size=6, max_size=6),
    generated=st.lists(st.integers(0, 5), max_size=8),
    penalty=st.floats(1, 2),
)
@settings(max_examples=300, deadline=None)
def test_the_repetition_penalty_is_the_formula_of_ctrl_and_spares_the_stop_token(
    logits: list[float], generated: list[int], penalty: float
) -> None:
    # Keskar et al. 2019, section 4.1; a negative score is multiplied, so that it too becomes less likely.
    expected = [
        (score / penalty if score > 0 else score * penalty) if token in generated and token != STOP else score
        for token, score in enumerate(logits)
    ]
    chosen = draw(logits, generated, temperature=0, repetition_penalty=penalty)
    assert expected[chosen] == pytest.approx(max(expected), abs=1e-5)
