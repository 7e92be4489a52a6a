"""Ablations: the variants of the data, each trained once, asked, and compared; what was stopped goes on."""

import json
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from assistant.dialogue import read_dialogues
from assistant.settings import bundled, settings
from evaluation.ablations import read_ablation, read_ablations
from tests.answering import answering
from tests.conftest import Command, Result
from tests.test_conversations import talk, write_lines
from train import trainer
from train.ablate.variants import Choices, arms, group_of
from train.run import runs_folder


@pytest.fixture
def sets(home: Path, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Options of an ablation on a few dialogues of the tiny base; no release comes along."""
    (tmp_path / "none").mkdir()
    monkeypatch.setattr("assistant.release.bundled", lambda name: tmp_path / "none")
    data = tmp_path / "data"
    data.mkdir()
    for group in ("howto", "stem"):
        singles = [
            {
                "id": f"{group}-{number}",
                "source": group,
                "messages": [
                    {"role": "user", "content": f"question {group} {number}"},
                    {"role": "assistant", "content": f"answer {number}. So it is, and so it is {'why ' * number}."},
                ],
            }
            for number in range(4)
        ]
        write_lines(data / f"{group}.jsonl", singles)
    chain = [{"role": role, "content": f"{role} {number}"} for number in range(2) for role in ("user", "assistant")]
    write_lines(data / "chains.jsonl", [{"id": f"chain-{number}", "messages": chain} for number in range(2)])
    dev = write_lines(
        tmp_path / "dev.jsonl",
        [{"messages": [{"role": "user", "content": "why"}, {"role": "assistant", "content": "so it is"}]}],
    )
    talks = write_lines(
        tmp_path / "talks.jsonl",
        [talk("one", ("why", {"regex": ["."]}), ("and", {"contains_any": ["never said"]}))],
    )
    constraints = write_lines(
        tmp_path / "constraints.jsonl",
        [{"messages": [{"role": "user", "content": "why"}], "checks": {"contains_any": ["never said"]}}],
    )
    short = ["--set", "dev_tokens=4", "--set", "tokens_per_micro_batch=128", "--set", "dialogues_per_step=4"]
    return [
        *["--base", tiny_llama, "--data", data, "--dev", dev, "--conversations", talks, "--constraints", constraints],
        *["--max-tokens", 4, "--engine", "transformers", *short],
    ]


def lines(name: str) -> list[dict[str, Any]]:
    file = settings().home / "ablations" / name / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def losses(result: Result) -> list[str]:
    """The steps that were trained, in order."""
    return re.findall(r"step \d+ of \d+, loss", result.err)


def test_the_quantities_are_nested_and_each_has_its_share_of_every_group() -> None:
    data = read_dialogues([bundled("dialogues")])
    of_seed = {seed: arms("quantity", data, Choices(), seed) for seed in (0, 1)}
    assert [arm.name for arm in of_seed[0]] == ["62", "125", "250", "500", "1000"]
    for found in of_seed.values():
        parts = [{dialogue.id for dialogue in arm.dialogues} for arm in found]
        assert all(small < big for small, big in pairwise(parts))
        for arm in found:
            assert len(arm.dialogues) == arm.size
            howto = sum(group_of(dialogue) == "howto" for dialogue in arm.dialogues)
            assert abs(howto - arm.size / 5) <= 1
    assert of_seed[0] == arms("quantity", data, Choices(), 0)
    assert of_seed[0][0] != of_seed[1][0]
    assert of_seed[0][-1] == of_seed[1][-1]


def test_the_chains_arms_are_the_whole_data_and_all_of_it_but_the_chains() -> None:
    data = read_dialogues([bundled("dialogues")])
    without, some, whole = arms("chains", data, Choices(sizes=(0, 10, 30)), 0)
    assert list(whole.dialogues) == data
    assert (len(without.dialogues), len(some.dialogues)) == (1000, 1010)
    assert all(len(dialogue.answers) == 1 for dialogue in without.dialogues)


def test_each_degraded_arm_is_worse_in_its_one_way() -> None:
    data = read_dialogues([bundled("dialogues")])
    written, *others = (arm.dialogues for arm in arms("quality", data, Choices(sizes=(100,)), 0))
    for of_rule in others:
        assert [one.messages[:-1] for one in of_rule] == [one.messages[:-1] for one in written]
    for one, padded, first, cut, swapped in zip(written, *others, strict=True):
        answer = one.answers[-1]
        assert answer in padded.answers[-1] and len(padded.answers[-1]) > len(answer)
        assert answer.startswith(first.answers[-1])
        assert answer.startswith(cut.answers[-1]) and len(cut.answers[-1].split()) <= len(answer.split()) / 2 + 1
        assert swapped.answers[-1] != answer
        (other,) = [found for found in written if found.answers == swapped.answers]
        assert group_of(other) == group_of(one)


def test_an_ablation_trains_each_arm_for_equal_steps_asks_it_and_leaves_a_report(
    thousand: Command, sets: list[object]
) -> None:
    done = thousand("evaluate", "ablate", "quantity", "--size", 2, "--size", 8, "--steps", 3, "--seeds", 2, *sets)
    assert done.code == 0, done.err
    record = read_ablation("quantity")
    assert read_ablations() == [record]
    assert (record.whole, record.reference, record.seeds) == (True, "8", (0, 1))
    small, whole = record.arms
    assert [(arm.name, arm.size) for arm in record.arms] == [("2", 2), ("8", 8)]
    for arm in record.arms:
        assert [(one.seed, one.steps, one.dialogues) for one in arm.trained] == [(0, 3, arm.size), (1, 3, arm.size)]
    score, of_whole = small.measure("dev", "score"), whole.measure("dev", "score")
    assert score is not None and of_whole is not None and score.difference is not None
    assert of_whole.difference is None
    assert score.difference.mean == pytest.approx(score.value.mean - of_whole.value.mean, abs=2e-4)
    assert score.value.mean == pytest.approx(sum(score.seeds) / 2, abs=2e-4)
    assert "constraints: prompts_strict" in done.out and "contains_any" not in done.out
    kind = whole.measure("constraints", "contains_any strict")
    assert kind is not None and kind.value.mean == 0
    assert "dev: score" in done.out and "less 8" in done.out
    place = settings().home / "ablations" / "quantity"
    assert (place / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert "| dev: score |" in (place / "ablation.md").read_text()
    told = lines("quantity")
    assert [(one["arm"], one["seed"]) for one in told] == [("2", 0), ("2", 1), ("8", 0), ("8", 1)]
    assert all({"key", "made", "figures", "tokens"} <= set(one) for one in told)
    assert not list(runs_folder().glob("*")), "a run is done with once its arm is trained"
    assert not (settings().home / "releases" / told[0]["release"]).exists(), "the registry has none of it"
    again = thousand("evaluate", "ablate", "quantity", "--size", 2, "--size", 8, "--steps", 3, "--seeds", 2, *sets)
    assert again.code == 0 and not losses(again)
    assert "Everything is trained already" in again.out


def test_chains_are_compared_turn_by_turn_and_an_arm_that_is_a_release_is_not_trained(
    thousand: Command, sets: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = ["--set", "epochs=1"]
    (tmp_path / "bundled").mkdir()
    # The dev prompts that come along are what a release's record takes for granted.
    (tmp_path / "bundled" / "dev.jsonl").write_bytes((tmp_path / "dev.jsonl").read_bytes())
    monkeypatch.setattr("evaluation.dev.bundled", lambda name: tmp_path / "bundled")
    monkeypatch.setattr("evaluation.sets.bundled", lambda name: tmp_path / "bundled")
    monkeypatch.setattr("evaluation.dev.prompts_file", lambda path=None: path or tmp_path / "bundled" / "dev.jsonl")
    own_dev = sets.index("--dev")
    others = [*sets[:own_dev], *sets[own_dev + 2 :]]
    training = [*others[:4], *others[others.index("--set") :]]
    assert thousand("train", *training, *epochs, "--name", "mine").code == 0
    planned = thousand("evaluate", "ablate", "chains", "--plan", *others, *epochs)
    assert planned.code == 0, planned.err
    assert "2, seed 0: 8 single-turn examples, 2 chains (is mine)" in planned.out
    assert not (settings().home / "ablations").exists()
    done = thousand("evaluate", "ablate", "chains", *others, *epochs)
    assert done.code == 0, done.err
    without, whole = read_ablation("chains").arms
    assert [(one.release, one.reused) for one in whole.trained] == [("mine", True)]
    assert without.trained[0].release.startswith("ablation-")
    assert len(losses(done)) == without.trained[0].steps
    for arm in (without, whole):
        turn = arm.measure("conversations", "turn 2")
        assert turn is not None and turn.value.mean == 0
        assert arm.trained[0].first_failures
    assert "conversations: turns_passed" in done.out
    assert "2, seed 0: is the release mine" in done.out


def test_what_was_stopped_goes_on_and_the_arms_before_are_not_trained_again(
    thousand: Command, sets: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["evaluate", "ablate", "diversity", "--size", 3, "--steps", 4, *sets]
    step = trainer.StepTrainer.training_step
    trained = 0

    def pressed(self: trainer.StepTrainer, *arguments: object) -> torch.Tensor:
        nonlocal trained
        trained += 1
        if trained == 7:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        loss: torch.Tensor = step(self, *arguments)
        return loss

    with monkeypatch.context() as patched:
        patched.setattr(trainer.StepTrainer, "training_step", pressed)
        stopped = thousand(*command)
    assert stopped.code == 1
    assert "Stopped; what is trained is saved. Go on with the same command." in stopped.err
    assert [arm.name for arm in read_ablation("diversity").arms] == ["mixed"]
    assert not read_ablation("diversity").whole
    done = thousand(*command)
    assert done.code == 0, done.err
    assert "howto, seed 0: 3 examples of howto alone" in done.out
    assert [arm.name for arm in read_ablation("diversity").arms] == ["mixed", "howto"]
    assert 0 < len(losses(done)) < 4
    fresh = thousand(*command, "--name", "fresh", "--seeds", 1)
    assert fresh.code == 0 and not losses(fresh), "another ablation of the same arms takes those that are there"
    figures = {name: [one["figures"] for one in lines(name)] for name in ("diversity", "fresh")}
    assert figures["diversity"] == figures["fresh"]


def test_data_that_changed_is_named_and_its_arms_are_not_mixed_with_the_old_ones(
    thousand: Command, sets: list[object]
) -> None:
    command = ["evaluate", "ablate", "diversity", "--size", 3, "--steps", 1, *sets]
    assert thousand(*command).code == 0
    file = Path(str(sets[sets.index("--data") + 1])) / "howto.jsonl"
    file.write_text(file.read_text().replace("answer", "reply"))
    refused = thousand(*command)
    assert refused.code == 1
    assert f"Changed since the ablation 'diversity' began: the data file {file}. " in refused.err
    assert thousand(*command, "--name", "other").code == 0
    assert not {one["key"] for one in lines("diversity")} & {one["key"] for one in lines("other")}
    longer = thousand(*command, "--max-tokens", 5)
    assert "max_tokens (it was 4)" in longer.err
    constraints = Path(str(sets[sets.index("--constraints") + 1]))
    constraints.write_text(constraints.read_text().replace("never said", "said"))
    assert f"the constraints {constraints}" in thousand(*command).err


def test_a_prompt_without_an_answer_is_named_and_asked_again_and_one_that_stands_twice_is_told(
    thousand: Command, sets: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [{"messages": [{"role": "user", "content": text}], "checks": {"min_words": 9}} for text in ("a", "a", "zz")]
    file = write_lines(Path(str(sets[sets.index("--constraints") + 1])), asked)
    engines = answering(monkeypatch)
    engines.says = defaultdict(lambda: lambda prompt: None if "zz" in prompt else "so it is")
    command = ["evaluate", "ablate", "diversity", "--size", 3, "--steps", 1, *sets]
    done = thousand(*command)
    assert done.code == 0, done.err
    told = "no answer to 1 prompt, not scored; the same command asks again: constraints/line 3: the engine broke"
    assert f"mixed, seed 0: {told}" in done.out and f"howto, seed 0: {told}" in done.out
    assert f"left out {file}:2: the same prompt as {file}:1" in done.out
    engines.says = defaultdict(lambda: lambda prompt: "so it is")
    engines.asked.clear()
    again = thousand(*command)
    assert again.code == 0 and not losses(again) and "no answer" not in again.out
    assert [len(prompts) for prompts in engines.asked.values()] == [1, 1], "only what had failed"


def test_an_arm_that_diverges_is_told_and_the_others_are_compared(
    thousand: Command, sets: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = trainer.StepTrainer.training_step
    trained = 0

    def diverging(self: trainer.StepTrainer, *arguments: object) -> torch.Tensor:
        nonlocal trained
        trained += 1
        loss: torch.Tensor = step(self, *arguments)
        return loss * torch.nan if trained == 2 else loss

    monkeypatch.setattr(trainer.StepTrainer, "training_step", diverging)
    done = thousand("evaluate", "ablate", "quality", "--steps", 2, *sets)
    assert done.code == 0, done.err
    assert "as-written, seed 0: failed: The loss became nan at step 2" in done.out
    names = [arm.name for arm in read_ablation("quality").arms]
    assert names == ["as-written", "padded", "first-sentence", "cut", "swapped"]
    assert read_ablation("quality").whole


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["quantity", "--size", 9], "--size 9 cannot be had: the data has 8 single-turn examples"),
        (["chains", "--size", 3], "--size 3 cannot be had: the data has 2 chains"),
        (["diversity", "--group", "poems"], "The data has no group poems; give one with --group: howto, stem."),
        (["quality", "--steps", 1, "--set", "epochs=1"], "leave one of them out"),
        (["quality", "--name", "arms"], "'arms' is no name for an ablation"),
        (["quantity", "--steps", 9999], "cannot be trained for 9999 steps"),
    ],
)
def test_what_cannot_be_had_is_one_sentence_and_leaves_nothing(
    thousand: Command, sets: list[object], options: list[object], sentence: str
) -> None:
    refused = thousand("evaluate", "ablate", *options, *sets)
    assert refused.code == 1
    assert sentence in refused.err
    assert not (settings().home / "ablations").exists()
