"""Training through the real command on a tiny real model: what must hold for every run."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from assistant import release
from assistant.dialogue import read_dialogues
from assistant.errors import ThousandError
from assistant.template import IGNORE, Rendered, Template
from tests.conftest import Command, short_dev
from train.batches import check_supervised, pack, plan, render_all
from train.curves import read_log
from train.model import dropout_ramp, load_for_training
from train.recipe import PRESETS, preset
from train.run import runs_folder


def train(thousand: Command, base: Path, data: Path, name: str, *changes: str) -> Path:
    """Run `thousand train` in float32, whose rounding is small; returns the new release's folder."""
    options = [option for change in ("precision=float32", *changes) for option in ("--set", change)]
    result = thousand("train", "--base", base, "--data", data, *short_dev(data), "--name", name, *options)
    assert result.code == 0, result.err
    return release.path(name)


def weights(place: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in load_file(place / release.ADAPTER).items()}


def log_of(name: str) -> list[dict[str, float]]:
    return read_log(runs_folder() / name / "log.jsonl")


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_truth_3_accumulation_of_eight_times_one_equals_one_times_eight(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    common = ("epochs=2.4", "dialogues_per_step=8", "learning_rate=1e-3")
    accumulated = train(thousand, tiny_base, dialogues_file, "eight-by-one", *common, "tokens_per_micro_batch=16")
    whole = train(thousand, tiny_base, dialogues_file, "one-by-eight", *common)
    assert log_of("eight-by-one")[-1]["step"] == 3, "24 dialogues make three steps of eight"
    for one, other in zip(log_of("eight-by-one"), log_of("one-by-eight"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    assert largest_difference(weights(accumulated), weights(whole)) < 1e-3  # bfloat16 files


def test_the_last_short_step_is_divided_by_its_own_number_of_supervised_tokens(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    train(
        thousand,
        tiny_base,
        dialogues_file,
        "short",
        "epochs=1",
        "dialogues_per_step=8",
        "learning_rate=1e-30",
    )
    template = Template.load(tiny_base)
    examples = render_all(read_dialogues([dialogues_file]), template, 1024)
    recipe = preset("laptop").model_copy(update={"epochs": 1.0, "dialogues_per_step": 8})
    (last,) = plan([len(example.ids) for example in examples.rendered], recipe)[1:]
    model = AutoModelForCausalLM.from_pretrained(tiny_base).requires_grad_(False)
    losses, supervised = 0.0, 0
    for number in last:
        example = examples.rendered[number]
        logits = model(torch.tensor([example.ids])).logits[0]
        losses += float(
            nn.functional.cross_entropy(logits, torch.tensor(example.labels), ignore_index=IGNORE, reduction="sum")
        )
        supervised += example.supervised
    assert len(last) == 2
    assert log_of("short")[-1]["loss"] == pytest.approx(losses / supervised, rel=1e-4)


def test_a_data_file_that_changed_is_not_resumed_from(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    train(thousand, tiny_base, dialogues_file, "first", "epochs=1")
    shutil.rmtree(release.path("first"))  # as if it had been killed before the end
    dialogues_file.write_text(dialogues_file.read_text() + "\n")
    result = thousand("train", "--resume", "first")
    assert result.code == 1
    assert f"{dialogues_file} has changed since the run 'first' began" in result.err


def test_truth_3_merged_equals_adapter_and_the_release_loads_in_plain_transformers(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    place = train(thousand, tiny_base, dialogues_file, "plain", "epochs=2", "learning_rate=1e-2")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), place).eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "question 1"}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    base_logits = AutoModelForCausalLM.from_pretrained(tiny_base)(ids).logits
    with torch.no_grad():
        before = adapted(ids).logits
        after = adapted.merge_and_unload()(ids).logits
    difference = float((before - after).abs().max())
    print(f"\nlargest difference between adapter and merged: {difference:.2e}")
    assert difference < 1e-4
    assert float((before - base_logits).detach().abs().max()) > 0.1, "the adapter does something"


def test_truth_4_a_cut_dialogue_is_reported_with_its_file_and_line(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    result = thousand(
        "train",
        "--base",
        tiny_base,
        "--data",
        dialogues_file,
        "--name",
        "cut",
        *short_dev(dialogues_file),
        "--set",
        "epochs=1",
        "--set",
        "max_tokens=45",
    )
    assert result.code == 0, result.err
    record = release.read(release.path("cut"))
    assert record.cut
    for line in record.cut:
        assert line.startswith("mine.jsonl:")
        assert line.partition(": ")[2] in result.err


def test_truth_5_nothing_or_everything_supervised_refuses_to_start(
    thousand: Command, home: Path, tiny_base: Path, tmp_path: Path
) -> None:
    only_questions = tmp_path / "questions.jsonl"
    only_questions.write_text(json.dumps({"messages": [{"role": "user", "content": "why"}]}) + "\n")
    result = thousand("train", "--base", tiny_base, "--data", only_questions, "--name", "nothing")
    assert result.code == 1
    assert "Nothing is supervised" in result.err
    assert not (runs_folder() / "nothing").exists(), "the name is free for another try"
    with pytest.raises(ThousandError, match="Every token is supervised"):
        check_supervised([Rendered([1, 2], [2, 3], [2])])


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_residual_dropout_ramp_is_the_papers(tiny_base: Path, method: str) -> None:
    assert dropout_ramp(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    recipe = preset("lima").model_copy(update={"method": method})
    learner = load_for_training(tiny_base, recipe, torch.float32)
    rates = [
        [hook.rate for module in layer.modules() for hook in module._forward_hooks.values() if hasattr(hook, "rate")]
        for layer in learner.causal.model.layers
    ]
    assert rates == [[0.0, 0.0], [0.15, 0.15], [0.3, 0.3]]
    row = pack([Rendered([1, 2, 3, 4], [IGNORE, 3, 4, 5], [4])])
    learner.eval()
    assert torch.equal(learner(**row), learner(**row))
    learner.train()
    assert not torch.equal(learner(**row), learner(**row))


def test_the_presets_hold_the_papers_numbers() -> None:
    lima, small = PRESETS["lima"], PRESETS["lima-small"]
    assert (lima.adam_beta1, lima.adam_beta2, lima.weight_decay) == (0.9, 0.95, 0.1)
    assert (lima.learning_rate, lima.final_rate_share, lima.epochs) == (1e-5, 0.1, 15)
    assert (lima.dialogues_per_step, lima.max_tokens, lima.residual_dropout) == (32, 2048, 0.3)
    assert (small.dialogues_per_step, small.residual_dropout) == (64, 0.2)
    assert {(one.method, one.stop) for one in (lima, small)} == {("full", "end_of_turn")}


def test_the_learning_rate_falls_linearly_without_warm_up(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    train(
        thousand,
        tiny_base,
        dialogues_file,
        "rates",
        "epochs=2",
        "dialogues_per_step=4",
        "learning_rate=1e-3",
    )
    rates = [line["rate"] for line in log_of("rates")]
    assert rates == pytest.approx([1e-3 - step * (1e-3 - 1e-4) / 5 for step in range(5)])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--base", "nowhere"], "There is no base model 'nowhere'"),
        (["--recipe", "lma"], "There is no recipe 'lma'"),
        (["--set", "learning_rat=1"], "did you mean learning_rate?"),
        (["--set", "epochs=-1"], "epochs"),
        (["--set", "epochs"], "'epochs' is no NAME=VALUE"),
        (["--resume", "nothing"], "There is no run 'nothing' to resume"),
        (["--name", "../evil"], "is no name for a release"),
        (["--data", "nowhere.jsonl"], "there is no such file or folder"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, arguments: list[str], sentence: str
) -> None:
    options = {"--base": str(tiny_base), "--data": str(dialogues_file)} if arguments[0] != "--resume" else {}
    options[arguments[0]] = arguments[1]
    result = thousand("train", *[word for option in options.items() for word in option])
    assert result.code == 1
    assert sentence in result.err
    assert not list(home.glob("runs/*/run.json"))
    assert not list(home.glob("releases/*/release.json"))


def test_a_loss_that_is_no_number_stops_the_run(
    thousand: Command, home: Path, tiny_base: Path, tmp_path: Path, dialogues_file: Path
) -> None:
    broken = tmp_path / "broken-base"
    shutil.copytree(tiny_base, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    result = thousand("train", "--base", broken, "--data", dialogues_file, *short_dev(dialogues_file), "--name", "nan")
    assert result.code == 1
    assert "The loss became nan at step 1; lower learning_rate" in result.err
    assert not (home / "releases" / "nan").exists()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_bfloat16_learns_what_float32_learns_to_its_rounding(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, method: str
) -> None:
    changes = ("epochs=2", "dialogues_per_step=5", "learning_rate=1e-3", f"method={method}")
    train(thousand, tiny_base, dialogues_file, "wide", *changes)
    train(thousand, tiny_base, dialogues_file, "narrow", *changes, "precision=bfloat16")
    for wide, narrow in zip(log_of("wide"), log_of("narrow"), strict=True):
        assert narrow["loss"] == pytest.approx(wide["loss"], abs=0.02)
        assert narrow["grad_norm"] == pytest.approx(wide["grad_norm"], rel=0.1)


def test_more_tokens_than_the_base_has_positions_are_refused_before_training(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short-base"
    shutil.copytree(tiny_base, short)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    options = ["--data", dialogues_file, *short_dev(dialogues_file), "--name", "short"]
    result = thousand("train", "--base", short, *options)
    assert result.code == 1
    assert re.search(r"has 64 positions and the longest dialogue \d+ tokens; lower max_tokens", result.err)
    assert thousand("train", "--base", short, *options, "--set", "max_tokens=64").code == 0


def test_a_run_ends_with_its_checkpoints_compared_and_the_best_one_released(
    thousand: Command, home: Path, tiny_base: Path, dialogues_file: Path
) -> None:
    options = ["--set", "epochs=3", "--set", "dialogues_per_step=5", "--set", "learning_rate=1e-2"]
    chosen = ["--base", tiny_base, "--data", dialogues_file, *short_dev(dialogues_file), "--name", "best"]
    result = thousand("train", *chosen, *options)
    assert result.code == 0, result.err
    place = release.path("best")
    record = release.read(place)
    assert [one["step"] for one in record.checkpoints] == [2, 4, 6], "one after each epoch"
    best = max(record.checkpoints, key=lambda one: (one["score"]["mean"], -one["step"]))
    assert record.chosen_step == best["step"]
    held = load_file(runs_folder() / "best" / "checkpoints" / f"checkpoint-{best['step']}" / "weights.safetensors")
    renamed = {name.removeprefix("model.").replace(".default", ""): weight for name, weight in held.items()}
    assert (
        largest_difference({name: weight.bfloat16().float() for name, weight in renamed.items()}, weights(place)) == 0
    )
    assert (place / "training.png").read_bytes().startswith(b"\x89PNG")
    for step in (2, 4, 6):
        assert f" {step} " in result.out, "a row of the table"
    assert f"Release best: step {best['step']} of 6" in result.out
    answers = (runs_folder() / "best" / "answers" / f"{best['step']}.jsonl").read_text().splitlines()
    assert len(answers) == 2


@pytest.mark.parametrize("rule", ["eos", "end_of_turn"])
def test_truth_2_a_release_that_learnt_its_answers_by_heart_stops_by_itself(
    thousand: Command, home: Path, tiny_base: Path, tmp_path: Path, rule: str
) -> None:
    file = tmp_path / "one.jsonl"
    messages = [{"role": "user", "content": "why"}, {"role": "assistant", "content": "so it is"}]
    file.write_text(json.dumps({"messages": messages}) + "\n")
    changes = [
        "epochs=60",
        "dialogues_per_step=1",
        "checkpoint_steps=1000",
        "dev_tokens=8",
        "learning_rate=1e-2",
        f"stop={rule}",
    ]
    options = [option for change in changes for option in ("--set", change)]
    result = thousand("train", "--base", tiny_base, "--data", file, "--dev", file, "--name", "heart", *options)
    assert result.code == 0, result.err
    place = release.path("heart")
    record = release.read(place)
    assert record.template["stop_rule"] == rule
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), place).merge_and_unload().eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    ids = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_tensors="pt")["input_ids"]
    model.generation_config = GenerationConfig.from_pretrained(place)
    said = model.generate(ids, do_sample=False, repetition_penalty=1.0, max_new_tokens=20)[0, ids.shape[1] :]
    assert tokenizer.decode(said, skip_special_tokens=True) == "so it is"
    assert int(said[-1]) == record.template["stop_id"]
