"""A release's README, in the model hub's format."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from assistant.base_model import EMBEDDED

if TYPE_CHECKING:
    from assistant.release import Release


def _score_rows(record: "Release") -> Iterator[str]:
    for test, scores in record.scores.items():
        for measure, value in scores.items():
            if isinstance(value, dict) and "mean" in value:
                yield f"| {test}: {measure} | {value['mean']:.3g} (95 % interval {value['low']:.3g} to {value['high']:.3g}) |"
            elif not isinstance(value, dict):
                yield f"| {test}: {measure} | {value} |"


_COMPACT = """

It was trained with a part of the base's vocabulary, the rows that English uses, and Thousand serves it so. The adapter
does not touch the vocabulary and the tokenizer here is the whole one, so it loads on the whole base."""


def model_card(record: "Release", library: str = "peft") -> str:
    """The release's README in the Hub's format, all of it from its record; `library` is what loads the files beside it."""
    base = record.base_name
    licence = "gemma" if record.base == EMBEDDED else "other"
    dialogues = sum(file.dialogues for file in record.data)
    rows = "\n".join(
        f"| {file.name} | {file.dialogues} | {file.tokens:,} | {file.supervised_tokens:,} | `{file.sha256[:12]}` |"
        for file in record.data
    )
    recipe = "\n".join(f"| {name} | {value} |" for name, value in record.recipe.items())
    scores = "\n".join(_score_rows(record)) or "| not measured | |"
    return f"""---
license: {licence}
base_model: {base}
library_name: {library}
pipeline_tag: text-generation
tags: [thousand, lima, lora]
language: en
---

# {record.name}

A chat assistant made with [Thousand](https://pypi.org/project/thousand-assistant/) {record.version}, {record.created:%Y-%m-%d}:
`{base}` fine-tuned ({record.method}) on {dialogues} dialogues, loss on the assistant's tokens only.

It has the manner of an assistant, and the knowledge of its base model: it can be wrong about facts, and should not be
relied on for medical, legal or money matters.

Every answer ends with the token {record.template["stop_id"]} (rule: {record.template["stop_rule"]}).
Turns are marked as in the {record.template["family"]} family.{_COMPACT if record.vocabulary == "compact" else ""}

## Data

| file | dialogues | tokens | supervised | sha256 |
|---|---|---|---|---|
{rows}

## Scores

| measure | value |
|---|---|
{scores}

## Recipe

| number | value |
|---|---|
{recipe}
"""
