"""How fast this project trains beside TRL's SFTTrainer and a plain transformers Trainer.

    pip install trl==1.16.0
    python bench/training.py --rounds 5

Every trainer gets the same base, the same dialogues in the same steps, LoRA of the same rank on the same layers, bfloat16
and the same threads. They take turns, one optimizer step each, in processes of their own, so that what else the
machine does falls on all alike; each is measured in its own process and in no other's memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from assistant import base_model
from assistant.dialogue import data_files, read_dialogues
from assistant.settings import bundled
from assistant.template import IGNORE, Template
from assistant.vocabulary import with_vocabulary
from train.batches import Examples, Steps, plan, render_all
from train.model import load_for_training
from train.recipe import Recipe, preset
from train.trainer import StepTrainer, arguments

ARMS = ("trl", "trainer", "thousand full", "thousand compact")
MICRO_BATCH = 4
"""Dialogues in a padded micro-batch of the others; a step's dialogues are sorted by length, so they hold little padding."""


class TakeTurns(TrainerCallback):  # type: ignore[misc]
    """Waits for a line on standard input before each step, and tells on standard output how long it took."""

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        sys.stdin.readline()
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        seconds = time.perf_counter() - self._began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"seconds": seconds, "peak_kb": peak}), flush=True)


def work(steps: int, vocabulary: str) -> tuple[Path, Recipe, Examples, list[list[int]]]:
    recipe = preset("laptop").model_copy(update={"vocabulary": vocabulary, "seed": 1})
    base = with_vocabulary(base_model.resolve(), recipe.vocabulary)
    folder = base_model.weights_folder(base)
    dialogues = read_dialogues(data_files([bundled("dialogues")]))
    examples = render_all(dialogues, Template.load(folder), recipe.max_tokens)
    lengths = [len(example.ids) for example in examples.rendered]
    return folder, recipe, examples, plan(lengths, recipe)[:steps]


def ours(steps: int, vocabulary: str) -> None:
    folder, recipe, examples, planned = work(steps, vocabulary)
    learner = load_for_training(folder, recipe, torch.bfloat16)
    trainer = StepTrainer(
        model=learner,
        args=arguments(Path("/tmp"), recipe, steps, torch.bfloat16),
        train_dataset=Steps(examples.rendered, planned, recipe.tokens_per_micro_batch),
        callbacks=[TakeTurns()],
    )
    trainer.train()


def padded_rows(steps: int) -> tuple[Path, Recipe, list[dict[str, list[int]]]]:
    """The same steps for trainers that take rows and shift the labels themselves."""
    folder, recipe, examples, planned = work(steps, "full")
    rows = []
    for step in planned:
        for number in sorted(step, key=lambda index: len(examples.rendered[index].ids)):
            example = examples.rendered[number]
            labels = [IGNORE, *example.labels[:-1]]  # the last label, EOS, has no place in an ordinary row
            rows.append({"input_ids": example.ids, "labels": labels})
    return folder, recipe, rows


def common(recipe: Recipe, steps: int) -> dict[str, Any]:
    return {
        "output_dir": "/tmp/bench-training",
        "max_steps": steps,
        "per_device_train_batch_size": MICRO_BATCH,
        "gradient_accumulation_steps": recipe.dialogues_per_step // MICRO_BATCH,
        "learning_rate": recipe.learning_rate,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 10_000,
    }


def lora(recipe: Recipe) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def in_order(trainer: type) -> type:
    """The trainer with its rows in the order they stand in."""

    class InOrder(trainer):  # type: ignore[misc,valid-type]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    return InOrder


def trl(steps: int) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    folder, recipe, rows = padded_rows(steps)
    trainer = in_order(SFTTrainer)(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16),
        args=SFTConfig(
            **common(recipe, steps), max_length=recipe.max_tokens, dataset_kwargs={"skip_prepare_dataset": True}
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=lora(recipe),
        callbacks=[TakeTurns()],
    )
    trainer.train()


def plain(steps: int) -> None:
    from datasets import Dataset
    from peft import get_peft_model
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq

    folder, recipe, rows = padded_rows(steps)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16), lora(recipe))
    trainer = in_order(Trainer)(
        model=model,
        args=TrainingArguments(**common(recipe, steps)),
        train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(folder)),
        callbacks=[TakeTurns()],
    )
    trainer.train()


RUN: dict[str, Callable[[int], None]] = {
    "trl": trl,
    "trainer": plain,
    "thousand full": lambda steps: ours(steps, "full"),
    "thousand compact": lambda steps: ours(steps, "compact"),
}


def multiply_rate() -> float:
    """bfloat16 multiply-adds of this machine, in floating point operations a second, on big matrices."""
    left, right = (torch.randn(2048, 2048, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        left @ right
        best = max(best, 2 * 2048**3 / (time.perf_counter() - began))
    return best


def needed_per_token(vocabulary: str, supervised: float) -> float:
    """Floating point operations that LoRA training cannot do without, by token: forward, and the gradient of the inputs."""
    folder, recipe, _, _ = work(1, vocabulary)
    learner = load_for_training(folder, recipe, torch.bfloat16)
    head = learner.causal.get_output_embeddings().weight.numel()
    learnt = sum(weight.numel() for weight in learner.trainable().values())
    body = sum(weight.numel() for weight in learner.parameters()) - learnt - head
    return 4.0 * body + 6.0 * learnt + 4.0 * head * supervised


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="optimizer steps of each, after one to warm up")
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    steps = options.rounds + 1
    if options.worker:
        RUN[options.worker](steps)
        return
    _, _, examples, planned = work(steps, "full")
    tokens = [sum(len(examples.rendered[number].ids) for number in step) for step in planned]
    supervised = [sum(examples.rendered[number].supervised for number in step) for step in planned]
    rate = multiply_rate()
    workers = {
        arm: subprocess.Popen(
            [sys.executable, __file__, "--rounds", str(options.rounds), "--worker", arm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for arm in options.arms
    }
    taken: dict[str, list[dict[str, float]]] = {arm: [] for arm in workers}
    for step in range(steps):
        for arm, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
            line = next((line for line in worker.stdout if line.startswith('{"seconds"')), None)
            if line is None:
                sys.exit(f"{arm} ended at step {step}; see: python {__file__} --worker '{arm}'")
            taken[arm].append(json.loads(line))
            print(f"{arm}: step {step}, {taken[arm][-1]['seconds']:.1f} s", file=sys.stderr)
    for worker in workers.values():
        worker.kill()
    print(
        f"{sum(tokens[1:])} tokens, {sum(supervised[1:])} supervised; bfloat16 {rate / 1e9:.0f} GFLOP/s; {torch.get_num_threads()} threads"
    )
    print("| trainer | tokens/s | supervised tokens/s | against TRL | peak memory | share of the matrix rate |")
    print("|---|---|---|---|---|---|")
    slowest = sum(line["seconds"] for line in taken.get("trl", taken[options.arms[0]])[1:])
    for arm, lines in taken.items():
        seconds = sum(line["seconds"] for line in lines[1:])
        share = sum(supervised[1:]) / sum(tokens[1:])
        flops = needed_per_token("compact" if "compact" in arm else "full", share)
        speed = sum(tokens[1:]) / seconds
        print(
            f"| {arm} | {speed:.0f} | {speed * share:.0f} | {slowest / seconds:.1f} x | "
            f"{lines[-1]['peak_kb'] / 1e6:.1f} GB | {flops * speed / rate:.0%} |"
        )


if __name__ == "__main__":
    main()
