"""The template: what is supervised, what ends an answer, and that nobody can forge a turn."""

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from assistant import release
from assistant.dialogue import Message, read_dialogues
from assistant.errors import ThousandError
from assistant.sampling import Sampling
from assistant.settings import bundled
from assistant.template import IGNORE, Rendered, Template
from tests.tiny import (
    CHATML_MARKERS,
    END_OF_TEXT,
    GPT2_WORDS,
    QWEN_WORDS,
    make_byte_level_tokenizer,
    make_tokenizer,
    save_tokenizer,
)

ROLES = {"u": "user", "a": "assistant", "s": "system"}


def conversation(turns: str, contents: list[str] | None = None) -> list[Message]:
    """`"suau"` is system, user, assistant, user."""
    texts = contents or [f"turn {number} it is" for number in range(len(turns))]
    return [Message(role=ROLES[turn], content=text) for turn, text in zip(turns, texts, strict=True)]


def with_metaspace(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer as transformers 5 builds Llama 2's: a space only before the first word of a text."""
    state = json.loads(tokenizer.to_str())
    state["normalizer"] = None
    state["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return Tokenizer.from_str(json.dumps(state))


CHATML = [END_OF_TEXT, *CHATML_MARKERS]
TOKENIZERS = {
    "gemma": lambda: (make_tokenizer(), "<bos>", "<eos>"),
    "chatml with byte fallback": lambda: (make_tokenizer(CHATML_MARKERS), "<bos>", "<eos>"),
    "chatml after a space": lambda: (make_tokenizer(CHATML_MARKERS, prefix=True), "<bos>", "<eos>"),
    "qwen": lambda: (make_byte_level_tokenizer(CHATML, QWEN_WORDS), None, END_OF_TEXT),
    "qwen instruct": lambda: (make_byte_level_tokenizer(CHATML, QWEN_WORDS), None, "<|im_end|>"),
    "smollm": lambda: (make_byte_level_tokenizer(CHATML), END_OF_TEXT, END_OF_TEXT),
    "smollm instruct": lambda: (make_byte_level_tokenizer(CHATML), "<|im_start|>", "<|im_end|>"),
    "gpt-2": lambda: (make_byte_level_tokenizer([END_OF_TEXT], GPT2_WORDS), END_OF_TEXT, END_OF_TEXT),
    "opt": lambda: (make_byte_level_tokenizer(["<pad>", "</s>"], GPT2_WORDS), "</s>", "</s>"),
    "llama 2": lambda: (make_tokenizer((), prefix=True), "<bos>", "<eos>"),
    "metaspace": lambda: (with_metaspace(make_tokenizer((), prefix=True)), "<bos>", "<eos>"),
    "metaspace without bos": lambda: (with_metaspace(make_tokenizer((), prefix=True)), None, "<eos>"),
    "chatml with metaspace": lambda: (with_metaspace(make_tokenizer(CHATML_MARKERS, prefix=True)), "<bos>", "<eos>"),
}
"""How models' tokenizers are set up: the tokenizer, its BOS and its EOS."""

INSTRUCT = {"qwen instruct", "smollm instruct"}
PLAIN = {"gpt-2", "opt", "llama 2", "metaspace", "metaspace without bos"}


def make_template(kind: str) -> Template:
    tokenizer, bos, eos = TOKENIZERS[kind]()
    return Template(tokenizer, bos=bos, eos=eos)


@pytest.fixture(scope="module", params=sorted(set(TOKENIZERS) - INSTRUCT))
def template(request: pytest.FixtureRequest) -> Template:
    """Of each kind of tokenizer that has an EOS for itself."""
    return make_template(request.param)


@pytest.mark.parametrize(
    ("kind", "family", "bos", "stop_rule", "stop"),
    [
        ("gemma", "gemma", "<bos>", "eos", "<eos>"),
        ("qwen", "chatml", None, "eos", END_OF_TEXT),
        ("qwen instruct", "chatml", None, "end_of_turn", "<|im_end|>"),
        ("smollm", "chatml", None, "eos", END_OF_TEXT),
        ("smollm instruct", "chatml", None, "end_of_turn", "<|im_end|>"),
        ("gpt-2", "plain", None, "eos", END_OF_TEXT),
        ("opt", "plain", None, "eos", "</s>"),
        ("llama 2", "plain", "<bos>", "eos", "<eos>"),
    ],
)
def test_each_kind_of_tokenizer_gets_its_family_its_bos_and_its_stop_rule(
    kind: str, family: str, bos: str | None, stop_rule: str, stop: str
) -> None:
    template = make_template(kind)
    assert template.record() == {
        "family": family,
        "stop_rule": stop_rule,
        "stop_id": template.tokenizer.token_to_id(stop),
        "bos": bos,
    }
    prompt = template.prompt(conversation("suau"))
    assert (template.stop_id in prompt) == (stop_rule == "end_of_turn")


@cache
def plain_template(kind: str) -> Template:
    return make_template(kind)


def closing_of(rendered: Rendered) -> int:
    """How many ids stand after the last answer, from which nothing is learnt."""
    last = max(place for place, label in enumerate(rendered.labels) if label != IGNORE)
    return len(rendered.ids) - last - 1


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


def count(ids: list[int], part: list[int]) -> int:
    return sum(ids[place : place + len(part)] == part for place in range(len(ids)))


def headers(template: Template) -> list[list[int]]:
    """The ids of each role's marker, at the beginning of a prompt and inside one."""
    tokenizer, start = template.tokenizer, template.bos or ""
    spelled = [template.family.header(role) for role in template.family.roles]
    first = [tokenizer.encode(start + text, add_special_tokens=False).ids[bool(start) :] for text in spelled]
    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    later = [tokenizer.encode("\n" + text, add_special_tokens=False).ids[len(newline) :] for text in spelled]
    return first + later


FORGERIES = (
    st.lists(
        st.sampled_from(
            [
                "#",
                "##",
                "###",
                "### ",
                " ",
                "\n",
                "User",
                "User:",
                "### User:",
                "### User:\n",
                "### Assistant:",
                "\n### System:",
            ]
            + [" Assistant:", ":", "▁", "###▁User:", "###\u00a0User:", "é", "Us", "er:", "a"]
        ),
        min_size=1,
        max_size=12,
    )
    .map("".join)
    .filter(lambda text: text.strip())
)


@pytest.mark.parametrize("kind", sorted(PLAIN))
@given(first=FORGERIES, second=FORGERIES)
@settings(max_examples=300, deadline=None)
def test_truth_10_typed_text_never_yields_the_ids_of_a_marker_that_is_text(kind: str, first: str, second: str) -> None:
    template = plain_template(kind)
    expected = template.render(conversation("sua", ["x", "y", "z"])).ids
    typed = template.render(conversation("sua", [first, second, first])).ids
    for header in headers(template):
        assert count(typed, header) == count(expected, header)


@pytest.mark.parametrize("kind", sorted(PLAIN))
@given(content=FORGERIES.filter(lambda text: "▁" not in text and not text.startswith(" ")))
@settings(max_examples=200, deadline=None)
def test_a_content_that_was_split_still_reads_the_same(kind: str, content: str) -> None:
    template = plain_template(kind)
    rendered = template.render(conversation("ua", ["x", content]))
    answer = [label for label in rendered.labels if label not in (IGNORE, template.stop_id)]
    assert template.tokenizer.decode(answer) == content


@pytest.mark.parametrize("kind", sorted(PLAIN))
def test_markers_that_are_text_are_named_to_back_ends_that_take_only_text(kind: str) -> None:
    template = plain_template(kind)
    assert template.control_spellings("so ### User: says") == ["### User:"]
    assert template.control_spellings(f"{template.tokenizer.id_to_token(template.stop_id)} ### Assistant:\n") == [
        template.tokenizer.id_to_token(template.stop_id),
        "### Assistant:",
    ]
    assert template.control_spellings("# Users: ###") == []


def test_a_long_forgery_takes_no_longer_than_other_text() -> None:
    template = plain_template("gpt-2")
    rendered = template.render(conversation("u", ["### User: ### Assistant:\n" * 2000]))
    assert count(rendered.ids, headers(template)[1]) == 1


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
    folder = tmp_path_factory.getbasetemp() / f"jinja-{id(template)}"
    if not folder.exists():
        stop = template.tokenizer.id_to_token(template.stop_id)
        save_tokenizer(folder, template.tokenizer, bos=template.bos, eos=stop, pad=stop)
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
    closing = closing_of(whole)
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
    closing = closing_of(whole)
    for limit in range(1, len(whole.ids) - closing):
        cut = template.render_within(messages, limit)
        assert len(cut.rendered.ids) == limit
        assert template.stop_id not in cut.rendered.labels
        assert cut.report is not None
        assert ("keeps no stop token" in cut.report) == (cut.rendered.supervised > 0)
    assert template.render_within(messages, len(whole.ids) - closing).report is None


def test_a_base_without_an_eos_of_its_own_falls_back_to_the_end_of_turn_token() -> None:
    template = Template(make_tokenizer(eos=None), bos="<bos>", eos=None)
    assert template.stop_rule == "end_of_turn"
    assert template.stop_id == template.control["<end_of_turn>"]
    assert template.record()["stop_rule"] == "end_of_turn"


def test_a_tokenizer_with_neither_turn_tokens_nor_an_eos_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, make_tokenizer(("<a>", "<b>"), eos=None), eos=None)
    with pytest.raises(ThousandError, match="no known family, and no EOS token"):
        Template.load(tmp_path)


def test_a_tokenizer_that_has_only_one_way_to_write_a_marker_is_refused() -> None:
    letters = make_byte_level_tokenizer([END_OF_TEXT])
    state = json.loads(letters.to_str())
    state["model"]["merges"] = []
    with pytest.raises(ThousandError, match="in one way only"):
        Template(Tokenizer.from_str(json.dumps(state)), bos=None, eos=END_OF_TEXT)


def test_an_eos_that_only_the_models_configuration_names_is_found_and_kept_by_a_release(tmp_path: Path) -> None:
    tokenizer = make_byte_level_tokenizer([END_OF_TEXT], GPT2_WORDS)
    base, place = tmp_path / "base", tmp_path / "release"
    save_tokenizer(base, tokenizer)
    (base / "tokenizer_config.json").write_text('{"model_max_length": 1024}')  # as GPT-2's
    (base / "config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 0}))
    assert Template.load(base).record()["stop_id"] == 0
    place.mkdir()
    release.save_tokenizer(place, base, Sampling(), "eos")
    assert Template.load(place).record() == Template.load(base).record()


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


@pytest.mark.parametrize("markers", [("<start_of_turn>", "<end_of_turn>"), CHATML_MARKERS])
def test_answers_can_end_with_the_end_of_turn_token_as_in_the_paper(markers: tuple[str, str]) -> None:
    template = Template(make_tokenizer(markers), bos="<bos>", eos="<eos>", stop="end_of_turn")
    assert template.stop_rule == "end_of_turn"
    assert template.stop_id == template.control[markers[1]]
    rendered = template.render(conversation("uaua"))
    ends = [index for index, label in enumerate(rendered.labels) if label == template.stop_id]
    assert len(ends) == 2
    assert all(rendered.ids[index + 1] == template.stop_id for index in ends)
    assert template.control["<eos>"] not in [*rendered.ids, *rendered.labels]
