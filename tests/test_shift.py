"""What training changed, token by token: every choice of a release is looked up in its base."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from assistant import opening, release
from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.files import sha256
from evaluation.shift_record import NEAR, read_shift
from evaluation.shift_words import kind_of
from tests.answering import answering
from tests.conftest import Command, Result
from tests.test_conversations import write_lines


def prompt(number: int, *, reference: bool = True) -> dict[str, Any]:
    said = [{"role": "user", "content": f"Why is the sky blue? ({number})"}]
    answer = [{"role": "assistant", "content": "Air scatters short waves more than long ones."}] if reference else []
    return {"id": f"p{number}", "messages": said + answer}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "mine.jsonl", [prompt(1), prompt(2), prompt(3, reference=False)])


def says(asked: str) -> str:
    """The answer to the second prompt is cut."""
    return "why so it is ..." if "(2)" in asked else "so it is because the sky is blue"


def shifted(thousand: Command, name: str, prompts: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    answering(monkeypatch, **{name: says})
    done = thousand("evaluate", "shift", name, "--prompts", prompts)
    assert done.code == 0, done.err
    return done


def test_each_choice_is_ranked_in_the_base_after_the_same_context(
    thousand: Command, registry: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = shifted(thousand, "second", prompts, monkeypatch)
    shift = read_shift("second")
    assert shift is not None
    place = registry / "second"
    base, template = opening.open_parts(place, release.read(place))
    model = AutoModelForCausalLM.from_pretrained(base.folder)
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.folder), place)
    assert [one.id for one in shift.answers] == ["p1", "p2", "p3"]
    for number, one in enumerate(shift.answers, 1):
        user = Message(role="user", content=f"Why is the sky blue? ({number})")
        text = " ".join([*says(f"({number})").split(), ""])
        whole, start = template.render([user, Message(role="assistant", content=text)]), len(template.prompt([user]))
        ended = number != 2
        assert len(one.tokens) == whole.supervised - (not ended), "a cut answer has no end to foretell"
        for place_in_answer, token in enumerate(one.tokens):
            context = torch.tensor([whole.ids[: start + place_in_answer]])
            with torch.no_grad():
                logits, of_release = (each(input_ids=context).logits[0, -1] for each in (model, tuned))
            chosen = int(of_release.argmax())
            assert token.rank == int((logits > logits[chosen]).sum()) + 1
            assert (template.octets(chosen) or b"").decode(errors="replace") == token.choice
        assert "".join(token.text for token in one.tokens) == text
    shares = shift.same_prompt.shares
    by_answer = [sum(token.rank > NEAR for token in one.tokens) / len(one.tokens) for one in shift.answers]
    assert shares.shifted.mean == pytest.approx(sum(by_answer) / 3, abs=1e-3)
    assert shares.first.mean + shares.near.mean + shares.shifted.mean == pytest.approx(1, abs=2e-3)
    assert shift.text_in_base is not None, "two of the prompts have a reference"
    assert f"{shares.shifted.mean:.1%}" in done.out
    folder = registry.parent / "evaluations" / "shift" / "second"
    for picture in ("answer.png", "positions.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert 'class="shifted"' in (folder / "shift.html").read_text()
    assert thousand("evaluate", "report", "second").code == 0
    assert f"{shares.shifted.mean:.1%}" in (registry / "second" / "report.md").read_text()
    assert (registry / "second" / "shift-answer.png").read_bytes() == (folder / "answer.png").read_bytes()
    file = registry / "second" / release.RECORD
    file.write_text(json.dumps({**json.loads(file.read_text()), "adapter_sha256": "another"}))
    with pytest.raises(ThousandError, match="is of another release than the second that is here"):
        read_shift("second")
    assert thousand("evaluate", "report", "second").code == 0
    assert "is of another release" in (registry / "second" / "report.md").read_text()


def test_what_is_not_looked_at_is_named_and_a_prompt_that_changed_is_told(
    thousand: Command, registry: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(prompts, [prompt(1), {**prompt(1), "id": "again"}, prompt(2), prompt(3), prompt(4)])
    answering(monkeypatch, third=lambda asked: "" if "(3)" in asked else None if "(4)" in asked else says(asked))
    command = ["evaluate", "shift", "third", "--prompts", prompts]
    done = thousand(*command)
    assert done.code == 0, done.err
    assert f"left out: {prompts}:2: the same prompt as {prompts}:1" in done.out
    assert "left out: p3: empty" in done.out
    assert "left out: p4: unanswered" in done.out
    prompts.write_text(prompts.read_text().replace("blue? (2)", "so blue? (2)"))
    assert "third was asked 1 prompt anew, with other words than before: dev/p2" in thousand(*command).err


def test_a_release_that_changed_nothing_shifts_nothing(
    thousand: Command, registry: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = registry / "third"
    tensors = load_file(place / release.ADAPTER)
    save_file({name: tensor * 0 for name, tensor in tensors.items()}, place / release.ADAPTER, {"format": "pt"})
    release.write(place, release.read(place).model_copy(update={"adapter_sha256": sha256(place / release.ADAPTER)}))
    assert read_shift("third") is None
    shifted(thousand, "third", prompts, monkeypatch)
    shift = read_shift("third")
    assert shift is not None and shift.same_prompt.shares.first.mean == 1
    assert shift.same_prompt.manner is None
    assert shift.text_in_base == shift.text_in_release
    assert "nothing is shifted" in (registry.parent / "evaluations/shift/third/shift.html").read_text()


@pytest.mark.parametrize(
    ("text", "before", "place", "kind"),
    [
        (" the", "to", 9, "function"),
        ("the", "ba", 9, "content"),
        (" Therefore", ".", 9, "function"),
        (" kettle", "the", 9, "content"),
        ("\n\n", "end.", 9, "format"),
        (" 12", "in", 9, "content"),
        (" kettle", "the", 4, "opening"),
    ],
)
def test_a_token_is_manner_or_matter_by_rule(text: str, before: str, place: int, kind: str) -> None:
    assert kind_of(text, before, place, stop=False) == kind
    assert kind_of(text, before, place, stop=True) == "stop"
