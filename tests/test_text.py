"""Text deltas: joined they are the decoding of the whole, and no stop string leaks."""

from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.template import Template
from serve.engines.base import StopStrings, TokenText
from tests.tiny import CHATML_MARKERS, END_OF_TEXT, make_byte_level_tokenizer, make_tokenizer

SCRIPTS = "Hello 😀👩‍👩‍👧‍👦 🇩🇪 नमस्ते 你好 مرحبا 𐗐 café e\u0301 \ufffd\ufffd end \ufffd"


@pytest.fixture(scope="module", params=["byte fallback", "byte level"])
def template(request: pytest.FixtureRequest) -> Template:
    if request.param == "byte level":
        return Template(make_byte_level_tokenizer([END_OF_TEXT, *CHATML_MARKERS]), bos=None, eos=END_OF_TEXT)
    return Template(make_tokenizer(), bos="<bos>", eos="<eos>")


def joined(template: Template, ids: list[int]) -> str:
    decoder = TokenText(template)
    return "".join(decoder.push(token) for token in ids) + decoder.finish()


def full_decode(template: Template, ids: list[int]) -> str:
    """What the ids say: runs of byte tokens as UTF-8, everything else as the tokenizer has it."""
    text = ""
    for is_byte, run in groupby(ids, key=lambda token: token in template.byte_of):
        tokens = list(run)
        if is_byte:
            text += b"".join(template.byte_of[token] for token in tokens).decode("utf-8", "replace")
        else:
            text += template.tokenizer.decode(tokens, skip_special_tokens=True)
    return text


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_truth_6_the_joined_stream_is_the_full_decode_at_every_token_boundary(
    template: Template, data: st.DataObject
) -> None:
    text = data.draw(st.one_of(st.just(SCRIPTS), st.text(min_size=1, max_size=30)))
    ids = template.tokenizer.encode(text, add_special_tokens=False).ids
    assert joined(template, ids) == template.tokenizer.decode(ids, skip_special_tokens=True)
    end = data.draw(st.integers(0, len(ids)))
    assert joined(template, ids[:end]) == full_decode(template, ids[:end])


@given(ids=st.lists(st.integers(0, 360), max_size=40))
@settings(max_examples=500, deadline=None)
def test_truth_6_holds_for_any_tokens_that_a_model_may_say(template: Template, ids: list[int]) -> None:
    assert joined(template, ids) == full_decode(template, ids)


def test_truth_6_no_delta_ends_inside_a_character(template: Template) -> None:
    ids = template.tokenizer.encode("a😀b", add_special_tokens=False).ids
    decoder = TokenText(template)
    assert len(ids) == 6, "the emoji is four byte tokens"
    assert [decoder.push(token) for token in ids] == ["a", "", "", "", "😀", "b"]


def test_truth_6_holds_for_the_embedded_base(real_home: Path) -> None:
    from assistant.base_model import resolve

    template = Template.load(resolve().folder)
    ids = template.tokenizer.encode(SCRIPTS, add_special_tokens=False).ids
    assert joined(template, ids) == template.tokenizer.decode(ids, skip_special_tokens=True)
    for end in range(len(ids) + 1):
        assert joined(template, ids[:end]) == full_decode(template, ids[:end])


@given(
    text=st.text("abé", max_size=25), stops=st.lists(st.text("abé", min_size=1, max_size=4), max_size=3), data=st.data()
)
@settings(max_examples=500, deadline=None)
def test_truth_6_a_stop_string_never_leaks_not_even_half_of_it(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    filter_ = StopStrings(stops)
    shown = ""
    for piece in pieces:
        shown += filter_.push(piece)
        assert not any(stop in shown for stop in stops)
    shown += filter_.finish()
    # The text ends where a stop string is first complete; of several complete at once, at the earliest beginning.
    ends = {text.find(stop): text.find(stop) + len(stop) for stop in stops if stop in text}
    if not ends:
        assert shown == text
        assert not filter_.stopped
    else:
        assert filter_.stopped
        assert text.startswith(shown)
        assert shown == text[: len(shown)]
        assert any(len(shown) == begin for begin in _beginnings(text, stops))
        assert not any(stop in shown for stop in stops)


def _beginnings(text: str, stops: list[str]) -> set[int]:
    return {start for stop in stops for start in range(len(text)) if text.startswith(stop, start)}
