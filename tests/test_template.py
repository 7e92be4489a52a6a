"""The template: what is supervised, what ends an answer, and that nobody can forge a turn."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from assistant import release
from assistant.dialogue import Message, read_dialogues
from assistant.errors import ThousandError
from assistant.settings import bundled
from assistant.template import IGNORE, Template
from tests.tiny import CHATML_MARKERS, GEMMA_MARKERS, make_tokenizer, save_tokenizer

ROLES = {"u": "user", "a": "assistant", "s": "system"}


def conversation(turns: str, contents: list[str] | None = None) -> list[Message]:
    """`"suau"` is system, user, assistant, user."""
    texts = contents or [f"turn {number} it is" for number in range(len(turns))]
    return [Message(role=ROLES[turn], content=text) for turn, text in zip(turns, texts, strict=True)]


@pytest.fixture(scope="module", params=["gemma", "chatml"])
def template(request: pytest.FixtureRequest) -> Template:
    markers = GEMMA_MARKERS if request.param == "gemma" else CHATML_MARKERS
    return Template(make_tokenizer(markers), bos="<bos>", eos="<eos>")


@pytest.mark.parametrize("turns", ["ua", "sua", "uaua", "uau", "suauaua"])
def test_truth_1_the_last_supervised_token_of_every_answer_is_the_stop_token(template: Template, turns: str) -> None:
    messages = conversation(turns)
    rendered = template.render(messages)
    supervised = [index for index, label in enumerate(rendered.labels) if label != IGNORE]
    runs: list[list[int]] = []
    for index in supervised:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    answers = [message.content for message in messages if message.role == "assistant"]
    assert [template.tokenizer.decode([rendered.labels[i] for i in run][:-1]) for run in runs] == answers
    assert all(rendered.labels[run[-1]] == template.stop_id for run in runs)
    assert template.stop_id not in rendered.ids, "the token that ends an answer never stands in a context"


def test_a_prompt_is_the_beginning_of_the_same_dialogue_with_its_answer(template: Template) -> None:
    whole = template.render(conversation("uaua")).ids
    prompt = template.prompt(conversation("uau"))
    assert whole[: len(prompt)] == prompt


ALPHABET = st.sampled_from(
    [
        "a",
        " ",
        "\n",
        "\t",
        "<",
        ">",
        "|",
        "e",
        "é",
        "😀",
        "你",
        "\u200d",
        "<end_of_turn>",
        "<start_of_turn>",
        "<eos>",
        "<bos>",
    ]
    + ["<|im_start|>", "<|im_end|>", "[multimodal]", "<table>", "<start_of_turn>model\n", "<0x0A>", "▁", "\ufffd"]
)
CONTENT = st.lists(ALPHABET, min_size=1, max_size=12).map("".join).filter(lambda text: text.strip())


@given(content=CONTENT)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truth_10_typed_text_yields_no_control_token(template: Template, content: str) -> None:
    plain = template.render(conversation("ua", ["x", "y"])).ids
    typed = template.render(conversation("ua", [content, content])).ids
    control = set(template.control.values())
    assert [token for token in typed if token in control] == [token for token in plain if token in control]


def test_truth_10_every_special_spelling_of_the_embedded_base_is_harmless(real_home: Path) -> None:
    from assistant.base_model import resolve

    template = Template.load(resolve().folder)
    control = set(template.control.values())
    assert len(control) > 6000
    for spelling in template.control:
        ids = template.render(conversation("u", [f"x{spelling}y {spelling}"])).ids
        assert sum(token in control for token in ids) == 3, spelling  # <bos>, one opening, one closing


@given(
    contents=st.lists(
        st.text("abc <>|\n.é😀", min_size=1, max_size=30).map(str.strip).filter(bool), min_size=3, max_size=3
    )
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_jinja_template_gives_the_same_ids(
    template: Template, tmp_path_factory: pytest.TempPathFactory, contents: list[str]
) -> None:
    if any(template.control_spellings(content) for content in contents):
        return
    folder = tmp_path_factory.getbasetemp() / f"jinja-{template.family.name}"
    if not folder.exists():
        save_tokenizer(folder, template.tokenizer)
        (folder / "chat_template.jinja").write_text(template.jinja(), encoding="utf-8")
    reference = AutoTokenizer.from_pretrained(folder)
    messages = conversation("sua", contents)
    spoken = [message.model_dump() for message in messages]
    assert reference.apply_chat_template(spoken, return_dict=False) == template.render(messages).ids
    assert reference.apply_chat_template(spoken[:2], add_generation_prompt=True, return_dict=False) == template.prompt(
        messages[:2]
    )


def test_the_jinja_template_of_the_embedded_base_gives_the_same_ids(real_home: Path) -> None:
    place = release.path(release.current())
    template, reference = Template.load(place), AutoTokenizer.from_pretrained(place)
    dialogues = read_dialogues([bundled("dialogues")])
    compared = 0
    for dialogue in dialogues:
        contents = [message.content for message in dialogue.messages]
        if any(content != content.strip() or template.control_spellings(content) for content in contents):
            continue
        spoken = [message.model_dump() for message in dialogue.messages]
        assert reference.apply_chat_template(spoken, return_dict=False) == template.render(dialogue.messages).ids, (
            dialogue.id
        )
        compared += 1
    assert compared > len(dialogues) * 0.9


def test_truth_4_a_long_dialogue_is_cut_at_a_turn_boundary_and_says_so(template: Template) -> None:
    messages = conversation("uauaua")
    whole = template.render(messages)
    closing = 2  # the marker and newline after the last answer, from which nothing is learnt
    for limit in range(whole.turn_ends[1] - closing, whole.turn_ends[5] - closing):
        cut = template.render_within(messages, limit)
        turns = len(cut.rendered.turn_ends)
        assert turns % 2 == 0
        assert len(cut.rendered.ids) - closing <= limit
        assert cut.rendered.ids == whole.ids[: whole.turn_ends[turns - 1]]
        assert cut.rendered.labels.count(template.stop_id) == turns // 2
        assert cut.report is not None
        assert f"its last {6 - turns} turns were left out" in cut.report
    assert template.render_within(messages, len(whole.ids) - closing).report is None


def test_truth_4_a_cut_answer_keeps_no_false_stop_token(template: Template) -> None:
    messages = conversation("ua", ["why", "so it is. " * 4])
    whole = template.render(messages)
    for limit in range(1, len(whole.ids) - 2):
        cut = template.render_within(messages, limit)
        assert len(cut.rendered.ids) == limit
        assert template.stop_id not in cut.rendered.labels
        assert cut.report is not None
        assert ("keeps no stop token" in cut.report) == (cut.rendered.supervised > 0)
    assert template.render_within(messages, len(whole.ids) - 2).report is None


def test_a_base_without_an_eos_of_its_own_falls_back_to_the_end_of_turn_token() -> None:
    template = Template(make_tokenizer(eos=None), bos="<bos>", eos=None)
    assert template.stop_rule == "end_of_turn"
    assert template.stop_id == template.control["<end_of_turn>"]
    assert template.record()["stop_rule"] == "end_of_turn"


def test_a_tokenizer_without_known_turn_tokens_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, make_tokenizer(("<a>", "<b>")))
    with pytest.raises(ThousandError, match="no known family"):
        Template.load(tmp_path)


def test_a_tokenizer_that_builds_control_tokens_from_text_is_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    save_tokenizer(tmp_path, tokenizer)
    word = "why"
    assert tokenizer.encode(word, add_special_tokens=False).tokens == [word]
    state = json.loads(tokenizer.to_str())
    state["added_tokens"].append({**state["added_tokens"][0], "id": tokenizer.token_to_id(word), "content": word})
    (tmp_path / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(ThousandError, match="forge"):
        Template.load(tmp_path)
