"""The compact vocabulary: the same pieces and the same logits for what it keeps, and any text still goes through."""

import asyncio
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from assistant import base_model, release, vocabulary
from assistant.base_model import Base, resolve
from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.merges import Merges, Rows
from assistant.sampling import Sampling
from assistant.settings import settings as thousand_settings
from assistant.template import Template
from assistant.vocabulary import always_kept, compact, fingerprint, kept_rows
from serve.chat import Chat
from serve.engines.base import TokenText
from serve.start import open_chat
from tests.conftest import Command, short_dev

KEPT = "why is the sky blue air scatters question answer so it of and to in that 0 1 2 3 user model system\n"


@cache
def tokenizer_of(base: Base) -> Tokenizer:
    return Tokenizer.from_file(str(base.folder / "tokenizer.json"))


def state_of(base: Base) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((base.folder / "tokenizer.json").read_text(encoding="utf-8"))
    return found


def put_choice(place: Path, base: Base, rows: Rows) -> None:
    """Save a choice of rows for a base's tokenizer the way `data/vocabulary` holds them."""
    chosen = np.zeros(tokenizer_of(base).get_vocab_size(), dtype=np.uint8)
    chosen[rows] = 1
    np.save(place / f"{fingerprint(state_of(base))[:16]}.npy", np.packbits(chosen), allow_pickle=False)


@pytest.fixture(scope="module")
def whole(tiny_base: Path) -> Base:
    return resolve(str(tiny_base))


@pytest.fixture(scope="module")
def rows(whole: Base) -> Rows:
    """The pieces of a few words and what no choice may lack, closed under merges."""
    pieces = tokenizer_of(whole).encode(KEPT, add_special_tokens=False).ids
    return Merges(state_of(whole)).closed([*always_kept(whole.folder), *pieces])


@pytest.fixture(scope="module")
def choices(whole: Base, rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("choices")
    put_choice(place, whole, rows)
    return place


@pytest.fixture(scope="module")
def small(whole: Base, choices: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The tiny base with a part of its rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "bundled", lambda name: choices)
        patch.setenv("THOUSAND_HOME", str(tmp_path_factory.mktemp("home")))
        thousand_settings.cache_clear()
        made = compact(whole)
    thousand_settings.cache_clear()
    return made


def test_the_kept_rows_are_numbered_anew_everywhere(small: Base, whole: Base, rows: Rows) -> None:
    before, after = tokenizer_of(whole), tokenizer_of(small)
    assert after.get_vocab_size() == len(rows) < before.get_vocab_size() - 50
    assert {text: int(rows[row]) for text, row in after.get_vocab().items()} == {
        text: row for text, row in before.get_vocab().items() if row in rows
    }
    assert after.token_to_id("[multimodal]") is None
    template = Template.load(small.folder)
    stop = after.token_to_id("<eos>")
    assert template.record() == {**Template.load(whole.folder).record(), "stop_id": stop}
    config = AutoModelForCausalLM.from_pretrained(base_model.weights_folder(small)).config
    assert (config.vocab_size, config.eos_token_id) == (len(rows), stop)
    assert len(AutoTokenizer.from_pretrained(small.folder)) == len(rows), (
        "no token named in its configuration is lacking"
    )
    assert small.checksum != whole.checksum


@given(numbers=st.lists(st.integers(0, 10_000), min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_text_of_kept_tokens_gives_the_same_pieces(small: Base, whole: Base, rows: Rows, numbers: list[int]) -> None:
    text = tokenizer_of(whole).decode([int(rows[number % len(rows)]) for number in numbers])
    pieces = tokenizer_of(whole).encode(text, add_special_tokens=False).ids
    assume(set(pieces) <= set(rows.tolist()))  # pieces side by side may join into one that is not kept
    assert [int(rows[row]) for row in tokenizer_of(small).encode(text, add_special_tokens=False).ids] == pieces


def test_without_one_piece_on_the_way_the_same_text_gives_others(
    whole: Base, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    before, word = tokenizer_of(whole), "question"
    assert before.encode(word, add_special_tokens=False).tokens == [word]
    steps = Merges(state_of(whole)).derivation(word)
    assert {before.token_to_id(step) for step in steps} <= set(rows.tolist())
    between = before.token_to_id(steps[-2])
    put_choice(tmp_path, whole, rows[rows != between])
    monkeypatch.setattr(vocabulary, "bundled", lambda name: tmp_path)
    after = tokenizer_of(compact(whole))
    assert after.token_to_id(word) is not None
    assert after.encode(word, add_special_tokens=False).tokens != [word]


@cache
def template_of(base: Base) -> Template:
    return Template.load(base.folder)


def read_back(base: Base, text: str) -> str:
    reader = TokenText(template_of(base))
    ids = tokenizer_of(base).encode(text, add_special_tokens=False).ids
    return "".join([reader.push(row) for row in ids]) + reader.finish()


STRANGE = "naïve café — 你好, Привет, שלום, 🤷🏽‍♀️ e\u0301 <unused7> [multimodal] <table>\t\r\n\n  x"


@given(text=st.text(st.characters(exclude_characters="▁", exclude_categories=["Cs"]), max_size=30))
@example(STRANGE)
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back(small: Base, text: str) -> None:
    assert read_back(small, text) == text


def test_truth_10_no_spelling_of_a_control_token_yields_one(small: Base, whole: Base) -> None:
    template = Template.load(small.folder)
    control = set(template.control.values())
    for spelling in Template.load(whole.folder).control:
        ids = template.render([Message(role="user", content=f"x{spelling}y {spelling}")]).ids
        assert sum(row in control for row in ids) == 3, spelling  # <bos>, one opening, one closing


def test_the_logits_of_kept_rows_are_those_of_the_whole_model(small: Base, whole: Base, rows: Rows) -> None:
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, len(rows), (2, 40)))
    with torch.no_grad():
        before = AutoModelForCausalLM.from_pretrained(whole.folder)(torch.from_numpy(rows)[ids]).logits[..., rows]
        after = AutoModelForCausalLM.from_pretrained(base_model.weights_folder(small))(ids).logits
    difference = float((before - after).abs().max())
    print(f"\nlargest difference between full and compact logits: {difference:.2e}")
    assert difference < 1e-5
    assert float(after.std()) > 0.01


def answer(chat: Chat, question: str, tokens: int) -> str:
    async def collect() -> str:
        turn = chat.turn(
            [Message(role="user", content=question)],
            Sampling(temperature=0, repetition_penalty=1, max_tokens=tokens),
        )
        text = "".join([piece async for piece in turn.text])
        await chat.engine.close()
        return text

    return asyncio.run(collect())


def set_vocabulary(place: Path, kind: str) -> None:
    record = json.loads((place / release.RECORD).read_text())
    (place / release.RECORD).write_text(json.dumps({**record, "vocabulary": kind}))


def test_a_compact_release_says_what_the_whole_model_says_among_the_kept_tokens(
    thousand: Command,
    home: Path,
    whole: Base,
    rows: Rows,
    choices: Path,
    dialogues_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vocabulary, "bundled", lambda name: choices)
    trained = ["--name", "tiny", *short_dev(dialogues_file), "--set", "epochs=4", "--set", "learning_rate=1e-2"]
    result = thousand("train", "--base", whole.folder, "--data", dialogues_file, *trained)
    assert result.code == 0, result.err
    assert "more tokens than the full one, so it was hardly made for them" in result.err
    place = release.path("tiny")
    assert release.read(place).vocabulary == "compact"
    chat = open_chat("tiny", engine="transformers", context=256, say=base_model.quiet)
    said = answer(chat, "why is it so", 12)

    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(whole.folder), place).eval()
    template, kept = Template.load(place), torch.from_numpy(rows)
    ids = template.prompt([Message(role="user", content="why is it so")])
    begin = len(ids)
    with torch.no_grad():
        while len(ids) < begin + 12 and ids[-1] != template.stop_id:
            ids.append(int(kept[adapted(torch.tensor([ids])).logits[0, -1, kept].argmax()]))
    assert said == template.tokenizer.decode(ids[begin:])
    assert said.strip()


def test_a_tokenizer_without_a_choice_is_refused_in_a_sentence(home: Path, whole: Base) -> None:
    assert kept_rows(whole.folder / "tokenizer.json") is None
    with pytest.raises(ThousandError, match="use the full one, with: --set vocabulary=full"):
        compact(whole)
    assert not home.exists()


def test_the_fingerprint_is_of_the_tokenizer_and_not_of_its_file(whole: Base) -> None:
    state = state_of(whole)
    merges = [" ".join(pair) for pair in state["model"]["merges"]]
    vocab = dict(reversed(state["model"]["vocab"].items()))
    same = {**state, "version": "2", "model": {**state["model"], "vocab": vocab, "merges": merges}}
    assert fingerprint(same) == fingerprint(state)
    assert fingerprint({**state, "model": {**state["model"], "merges": merges[::-1]}}) != fingerprint(state)
    assert fingerprint({**state, "added_tokens": state["added_tokens"][:-1]}) != fingerprint(state)


def test_the_embedded_bases_choice_is_closed_and_holds_what_the_template_needs(real_home: Path) -> None:
    base = resolve()
    rows = kept_rows(base.folder / "tokenizer.json")
    assert rows is not None
    assert set(always_kept(base.folder)) <= set(rows.tolist())
    assert np.array_equal(Merges(state_of(base)).closed(rows), rows)
    small = compact(base)
    written = [text for text, row in tokenizer_of(base).get_vocab().items() if row % 101 == 0]
    text = " ".join(text.replace("▁", " ") for text in written if text not in template_of(small).control)
    assert len(text) > 10_000
    assert read_back(small, text) == text


def test_the_embedded_base_answers_the_same_in_llama_cpp(real_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "How do I boil an egg?"
    name = release.bundled_names()[-1]
    full = answer(open_chat(name, engine="llama.cpp", context=256, say=base_model.quiet), question, 24)
    read = release.read
    monkeypatch.setattr(release, "read", lambda place: read(place).model_copy(update={"vocabulary": "compact"}))
    chat = open_chat(name, engine="llama.cpp", context=256, say=base_model.quiet)
    assert chat.template.tokenizer.get_vocab_size() < 100_000
    assert answer(chat, question, 24) == full
    assert len(full.split()) > 5
