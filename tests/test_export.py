"""A second architecture all the way (a tiny Llama with ChatML): training, release, both engines, and every export, loaded by what it is for."""

import asyncio
import contextlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from jinja2 import Environment
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from assistant import cli, release, settings
from assistant.base_model import Base
from assistant.dialogue import Message
from assistant.gguf_write import write_gguf
from assistant.sampling import Sampling
from assistant.template import Template
from serve.chat import Chat
from serve.engines.llama_cpp import LlamaCpp
from serve.start import EngineName, open_chat
from tests.conftest import Command
from tests.real_servers import inside, llama_server, transformers_serve
from tests.standin import standing_in
from tests.tiny import END_OF_TEXT, GPT2_WORDS, make_byte_level_tokenizer, make_tiny_llama, save_tokenizer
from train.modelfile import go_template

ANSWERS = {
    "why is it so": "It is so, because it is.\n\n- one\n- two",
    "what is 12": "12 is 3 and 4 and 5.",
    "say it in emoji": "so 😀 it is 你好 é",
    "the sky": "The sky is blue.",
}
GREEDY = Sampling(temperature=0, top_p=1, repetition_penalty=1, max_tokens=60)


@contextmanager
def home_at(place: Path) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THOUSAND_HOME", str(place))
        patch.setattr("train.run.fast_dtype", lambda: torch.float32)
        settings.settings.cache_clear()
        yield patch
    settings.settings.cache_clear()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tiny_llama(tmp_path_factory.mktemp("base") / "tiny-llama")
    (folder / "LICENSE").write_text("Do as you like.\n")
    return folder


def teach(place: Path, base: Path) -> Path:
    """Train the release `tiny` in the THOUSAND_HOME `place`, until it knows four answers by heart."""
    data = place / "answers.jsonl"
    pairs = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in ANSWERS.items()]
    data.write_text("".join(json.dumps({"messages": pair}) + "\n" for pair in pairs))
    common = ["epochs=70", "dialogues_per_step=4", "checkpoint_steps=1000", "dev_tokens=16"]
    recipes = {
        "tiny": ["learning_rate=1e-2", "lora_rank=32"],
        "tiny-full": ["learning_rate=1e-2", "method=full"],
    }
    with home_at(place) as patch:
        for name, changes in recipes.items():
            options = [option for change in common + changes for option in ("--set", change)]
            chosen = ["--base", str(base), "--data", str(data), "--dev", str(data), "--name", name]
            patch.setattr(sys, "argv", ["thousand", "train", *chosen, *options])
            with contextlib.suppress(SystemExit):
                cli.main()
            assert (place / "releases" / name / "release.json").exists()
    return place


@pytest.fixture(scope="module")
def trained_home(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A THOUSAND_HOME with the release `tiny`."""
    return teach(tmp_path_factory.mktemp("home"), base)


@pytest.fixture
def home(trained_home: Path) -> Iterator[Path]:
    with home_at(trained_home):
        yield trained_home


def answers_of(chat: Chat) -> dict[str, str]:
    async def ask() -> dict[str, str]:
        found = {}
        for question in ANSWERS:
            turn = chat.turn([Message(role="user", content=question)], GREEDY)
            found[question] = "".join([piece async for piece in turn.text])
            assert turn.finish_reason == "stop"
        await chat.engine.close()
        return found

    return asyncio.run(ask())


@pytest.mark.parametrize("name", ["tiny", "tiny-full"])
@pytest.mark.parametrize("engine", ["transformers", "llama.cpp"])
def test_the_answers_that_were_taught_come_from_both_engines(home: Path, engine: EngineName, name: str) -> None:
    chat = open_chat(name, engine=engine, context=128, say=print)
    assert chat.engine.name == engine
    assert answers_of(chat) == ANSWERS


def test_a_base_without_turn_tokens_goes_the_same_road(thousand: Command, tmp_path: Path) -> None:
    base = make_tiny_llama(tmp_path / "tiny-plain", markers=())
    (base / "LICENSE").write_text("Do as you like.\n")
    with home_at(teach(tmp_path, base)):
        assert release.read(release.path("tiny")).template["family"] == "plain"
        engines: tuple[EngineName, ...] = ("transformers", "llama.cpp")
        for engine in engines:
            assert answers_of(open_chat("tiny", engine=engine, context=128, say=print)) == ANSWERS
        folder = exported(thousand, tmp_path / "out", "gguf")
        assert answers_over_chat_completions(folder / "tiny.gguf") == ANSWERS


def exported(thousand: Command, folder: Path, to: str, name: str = "tiny") -> Path:
    result = thousand("releases", "export", name, folder, "--to", to)
    assert result.code == 0, result.err
    assert result.out.startswith(f"{name} is in {folder}\n")
    assert (folder / "BASE_LICENSE").read_text() == "Do as you like.\n"
    return folder


def answers_in_transformers(model: PreTrainedModel, folder: Path) -> dict[str, str]:
    """What plain transformers says, with nothing but the files of the export."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = {}
    for question in ANSWERS:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        made = model.generate(ids, do_sample=False, repetition_penalty=1.0, max_new_tokens=60)[0, ids.shape[1] :]
        assert made[-1] == tokenizer.eos_token_id, "it stops by itself"
        found[question] = tokenizer.decode(made, skip_special_tokens=True)
    return found


def test_the_peft_export_answers_in_plain_peft(thousand: Command, home: Path, tmp_path: Path, base: Path) -> None:
    folder = exported(thousand, tmp_path / "out", "peft")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    model.generation_config = type(model.generation_config).from_pretrained(folder)
    assert answers_in_transformers(model, folder) == ANSWERS
    texts = [path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".md", ".jinja")]
    assert not any(str(base.parent) in text for text in texts), "it tells nothing of this machine's folders"
    assert "library_name: peft" in (folder / "README.md").read_text()


def test_the_safetensors_export_answers_in_plain_transformers(thousand: Command, home: Path, tmp_path: Path) -> None:
    folder = exported(thousand, tmp_path / "out", "safetensors")
    assert answers_in_transformers(AutoModelForCausalLM.from_pretrained(folder), folder) == ANSWERS
    assert "library_name: transformers" in (folder / "README.md").read_text()


@contextmanager
def server_on(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """A server of others on an export; yields what `open_chat` must be told of it."""
    with ExitStack() as stack:
        if kind in ("tgi", "vllm"):
            standin = stack.enter_context(standing_in(kind, folder, Template.load(folder).stop_id))  # type: ignore[arg-type]
            yield (
                {"engine": "tgi", "url": standin.url}
                if kind == "tgi"
                else {"engine": "openai", "url": standin.url, "model": "base"}
            )
        elif kind == "llama-server":
            yield {"engine": "openai", "url": stack.enter_context(llama_server(folder / "tiny.gguf", 128))}
        else:
            yield {"engine": "openai", "url": stack.enter_context(transformers_serve(folder)), "model": str(folder)}


@pytest.mark.parametrize("kind", ["tgi", "vllm", "llama-server", "transformers serve"])
def test_truth_2_servers_of_others_give_the_answers_and_stop(
    thousand: Command, home: Path, tmp_path: Path, kind: str
) -> None:
    folder = exported(thousand, tmp_path / "out", "gguf" if kind == "llama-server" else "safetensors")
    with server_on(kind, folder) as options:
        assert answers_of(open_chat("tiny", context=128, say=print, **options)) == ANSWERS


def answers_over_chat_completions(file: Path) -> dict[str, str]:
    """What llama.cpp's own chat route says: with its own tokenizer and the template in the file."""

    async def ask() -> dict[str, str]:
        engine = LlamaCpp(file, context=128, slots=1, threads=1)
        found = {}
        for question in ANSWERS:
            body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 60}
            async with inside(engine) as client:
                choice = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]
            assert choice["finish_reason"] == "stop"
            found[question] = choice["message"]["content"]
        await engine.close()
        return found

    return asyncio.run(ask())


def test_the_gguf_export_answers_in_llama_cpp_with_the_template_inside(
    thousand: Command, home: Path, tmp_path: Path
) -> None:
    folder = exported(thousand, tmp_path / "out", "gguf")
    assert {path.name for path in folder.iterdir()} == {"tiny.gguf", "README.md", "BASE_LICENSE"}
    assert answers_over_chat_completions(folder / "tiny.gguf") == ANSWERS


def test_an_adapter_is_merged_into_a_gguf_base_of_the_llama_architecture(
    thousand: Command, home: Path, tmp_path: Path, base: Path
) -> None:
    place = release.path("tiny")
    template = Template.load(place)
    write_gguf(Base("base", "", None, base), None, template, tmp_path / "base.gguf")
    write_gguf(Base("base", "", tmp_path / "base.gguf", base), place, template, tmp_path / "merged.gguf")
    assert answers_over_chat_completions(tmp_path / "merged.gguf") == ANSWERS


def as_jinja(go: str) -> str:
    """A template in Go's language in Jinja's, as far as this project writes it."""
    words: list[str] = []
    opened: list[str] = []
    for piece in re.split(r"(\{\{.*?\}\})", go):
        action = piece[2:-2].strip() if piece.startswith("{{") else None
        if action is None:
            words.append(piece)
        elif action == "range .Messages":
            opened.append("endfor")
            words.append("{% for message in messages %}")
        elif found := re.fullmatch(r'(else )?if eq \.Role "(\w+)"', action):
            opened += [] if found[1] else ["endif"]
            words.append(f"{{% {'elif' if found[1] else 'if'} message.role == '{found[2]}' %}}")
        elif action in (".Content", ".Role"):
            words.append(f"{{{{ message.{action[1:].lower()} }}}}")
        else:
            assert action in ("else", "end"), action
            words.append(f"{{% {opened.pop() if action == 'end' else 'else'} %}}")
    assert not opened
    return "".join(words)


CONVERSATION = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "why is it so"},
    {"role": "assistant", "content": "so it is\n"},
    {"role": "user", "content": "why"},
]


def test_the_ollama_export_has_a_modelfile_that_says_what_the_release_says(
    thousand: Command, home: Path, tmp_path: Path
) -> None:
    folder = exported(thousand, tmp_path / "out", "ollama")
    file = (folder / "Modelfile").read_text()
    instructions = re.findall(r'^([A-Z]+) ("""(?:.|\n)*?"""|.*)$', file, re.MULTILINE)
    assert "\n".join(f"{name} {value}" for name, value in instructions) + "\n" == file, "nothing is left over"
    by_name = {name: value.removeprefix('"""').removesuffix('"""') for name, value in instructions}
    assert (folder / by_name["FROM"]).is_file()
    assert by_name["TEMPLATE"] == go_template(Template.load(release.path("tiny")))
    assert by_name["LICENSE"] == "Do as you like.\n"
    parameters = [value.split(" ", 1) for name, value in instructions if name == "PARAMETER"]
    sampling = release.read(release.path("tiny")).sampling
    numbers = {key: float(value) for key, value in parameters if key != "stop"}
    assert numbers["temperature"] == sampling.temperature
    assert numbers["top_p"] == sampling.top_p
    assert numbers["repeat_penalty"] == sampling.repetition_penalty
    assert [json.loads(value) for key, value in parameters if key == "stop"] == [
        END_OF_TEXT,
        "<|im_start|>",
        "<|im_end|>",
    ]
    assert answers_over_chat_completions(folder / "tiny.gguf") == ANSWERS


@pytest.mark.parametrize("kind", ["chatml", "plain"])
def test_the_go_template_writes_what_the_jinja_template_writes(base: Path, tmp_path: Path, kind: str) -> None:
    if kind == "plain":
        save_tokenizer(tmp_path, make_byte_level_tokenizer([END_OF_TEXT], GPT2_WORDS), bos=None, eos=END_OF_TEXT)
    template = Template.load(tmp_path if kind == "plain" else base)
    jinja = Environment(keep_trailing_newline=True)
    go = jinja.from_string(as_jinja(go_template(template))).render(messages=CONVERSATION)
    assert go == jinja.from_string(template.jinja()).render(messages=CONVERSATION, add_generation_prompt=True)


def test_an_export_never_overwrites(thousand: Command, home: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    result = thousand("releases", "export", "tiny", tmp_path, "--to", "peft")
    assert result.code == 1
    assert f"{tmp_path} exists already, and an export never overwrites" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["tinny", "out", "--to", "gguf"], "did you mean tiny?"), (["tiny", "out", "--to", "onnx"], "onnx")],
)
def test_bad_input_to_an_export_is_one_sentence(
    thousand: Command, home: Path, tmp_path: Path, arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setattr("assistant.release.bundled", lambda name: tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    result = thousand("releases", "export", *arguments)
    assert result.code != 0
    assert sentence in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["none"]


@pytest.mark.parametrize("to", ["peft", "safetensors", "gguf"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(home: Path, tmp_path: Path, to: str) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = subprocess.run(
        [sys.executable, "-m", "assistant", "releases", "export", "tiny", str(tmp_path / "out"), "--to", to],
        env={**os.environ, "THOUSAND_HOME": str(home)},
        preexec_fn=small_files_only,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert re.search(r"Cannot write to .*out: .*or export to another disk\.", result.stderr), result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
