"""What an adapter that was trained with the compact vocabulary says on the whole one, where other tools serve it.

    python bench/served_whole.py [--release NAME]

The release answers the dev prompts with its own sampling, once with the compact vocabulary and once with the whole one
(the same seeds). At every position of the whole one's answers, and of the references, the probability of all tokens that were
left out in training is added up.
"""

import argparse
from collections.abc import Sequence
from statistics import fmean

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedModel

from assistant import base_model, release
from assistant.base_model import Base
from assistant.dialogue import Dialogue, Message
from assistant.template import IGNORE, Template
from assistant.vocabulary import kept_rows, with_vocabulary
from evaluation.dev import Answer, read_prompts, score
from train.generate import answer_batch


def opened(base: Base, name: str) -> tuple[PreTrainedModel, Template]:
    folder = base_model.weights_folder(base)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    return PeftModel.from_pretrained(model, release.path(name)).merge_and_unload().eval(), Template.load(folder)


@torch.inference_mode()
def outside(model: PreTrainedModel, template: Template, dialogues: Sequence[Sequence[Message]]) -> list[float]:
    """The probability of the rows that are not kept, at each position where an answer's next token is due."""
    found: list[float] = []
    rows = torch.from_numpy(kept_rows(base_model.resolve().folder / "tokenizer.json"))
    for messages in dialogues:
        rendered = template.render(messages)
        places = torch.tensor([place for place, label in enumerate(rendered.labels) if label != IGNORE])
        logits = model(torch.tensor([rendered.ids]), logits_to_keep=places).logits[0].float()  # (supervised, V)
        kept = torch.logsumexp(logits[:, rows], -1) - torch.logsumexp(logits, -1)
        found += (-torch.expm1(kept)).clamp_min(0).tolist()
    return found


def said(prompt: Dialogue, text: str) -> list[Message]:
    return [*prompt.messages[:-1], Message(role="assistant", content=text)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release")
    options = parser.parse_args()
    name = release.current() if options.release is None else options.release
    record = release.read(release.path(name))
    prompts = read_prompts()
    table = Table("vocabulary", "stopped", "repeated", "checks passed", "words", box=None)
    whole = base_model.resolve(record.base)
    sampling = record.sampling.model_copy(update={"max_tokens": 256, "seed": 0})
    for vocabulary in ("compact", "full"):
        model, template = opened(with_vocabulary(whole, vocabulary), name)
        generated = answer_batch(model, template, [prompt.messages[:-1] for prompt in prompts], sampling)
        answers = [
            Answer(
                prompt,
                one.text,
                one.tokens,
                one.stopped,
                tuple(prompt.checks.failed(one.text)) if prompt.checks else (),
            )
            for prompt, one in zip(prompts, generated, strict=True)
        ]
        scores = score(answers)
        columns = ("stopped", "repeated_4grams", "checks_passed", "words")
        table.add_row(vocabulary, *[f"{scores[column]['mean']:.3f}" for column in columns])
    spoken = [said(prompt, one.text) for prompt, one in zip(prompts, generated, strict=True) if one.text.strip()]
    Console().print(table)
    for what, dialogues in (("its own answers", spoken), ("the references", [prompt.messages for prompt in prompts])):
        shares = sorted(outside(model, template, dialogues))
        Console().print(
            f"{what}: {fmean(shares):.3%} of the probability on rows left out, at most {shares[-1]:.1%}; "
            f"above 1 % at {fmean(share > 0.01 for share in shares):.1%} of {len(shares):,} positions"
        )


if __name__ == "__main__":
    main()
