"""A finished run becomes a release: adapter, tokenizer, template, record, model card, notices."""

import json
import shutil
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file

import assistant
from assistant import release
from assistant.base_model import EMBEDDED, GEMMA_NOTICE
from assistant.files import atomic_folder, sha256, write_text
from assistant.release import DataFile, Release
from assistant.sampling import Sampling
from train.curves import plot_losses
from train.fit import Fitted


def make_release(fitted: Fitted) -> Release:
    """Write the release of a finished run into the registry's folder, whole or not at all; it is not promoted yet."""
    run, sampling = fitted.run, Sampling()
    with atomic_folder(release.folder() / run.name) as place:
        _save_adapter(fitted, place)
        template = release.save_tokenizer(place, fitted.base.folder, sampling)
        record = Release(
            name=run.name,
            created=release.now(),
            version=assistant.__version__,
            base=run.base,
            base_checksum=run.base_checksum,
            template=template.record(),
            recipe=run.recipe.model_dump(),
            data=_data_files(fitted),
            cut=[_without_folder(line) for line in fitted.examples.cut],
            training=fitted.measured,
            adapter_sha256=sha256(place / release.ADAPTER),
            sampling=sampling,
        )
        release.write(place, record)
        plot_losses(run.folder / "log.jsonl", place / "loss.png", title=run.name)
        write_text(place / "README.md", model_card(record))
        if run.base == EMBEDDED:
            write_text(place / "NOTICE", GEMMA_NOTICE)
        else:
            _copy_notices(fitted.base.folder, place)
    return record


def _save_adapter(fitted: Fitted, place: Path) -> None:
    """PEFT's own layout, in bfloat16: the adapter is trained against weights of that precision."""
    fitted.model.save_pretrained(place, safe_serialization=True)
    (place / "README.md").unlink(missing_ok=True)
    config_file = place / "adapter_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = fitted.run.base
    write_text(config_file, json.dumps(config, indent=2, sort_keys=True) + "\n")
    from safetensors.torch import load_file

    tensors = load_file(place / release.ADAPTER)
    save_file(
        {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()},
        place / release.ADAPTER,
        metadata={"format": "pt"},
    )


def _data_files(fitted: Fitted) -> list[DataFile]:
    counts: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    supervised: Counter[str] = Counter()
    for dialogue in fitted.dialogues:
        file = dialogue.where.rpartition(":")[0]
        rendered = fitted.template.render(dialogue.messages)
        counts[file] += 1
        tokens[file] += len(rendered.ids)
        supervised[file] += rendered.supervised
    return [
        DataFile(
            name=Path(file).name,
            sha256=digest,
            dialogues=counts[file],
            tokens=tokens[file],
            supervised_tokens=supervised[file],
        )
        for file, digest in fitted.run.files.items()
    ]


def _without_folder(line: str) -> str:
    """A report line with the file's name instead of its path: a release is passed on to others."""
    place, _, rest = line.partition(": ")
    return f"{Path(place).name}: {rest}"


def _copy_notices(source: Path, place: Path) -> None:
    for file in [*source.glob("LICENSE*"), *source.glob("NOTICE*")]:
        shutil.copyfile(file, place / f"BASE_{file.name}")


def model_card(record: Release) -> str:
    """The release's README in the Hub's format."""
    base = Path(record.base).name if record.base.startswith("/") else record.base
    licence = "gemma" if record.base == EMBEDDED else "other"
    dialogues = sum(file.dialogues for file in record.data)
    rows = "\n".join(
        f"| {file.name} | {file.dialogues} | {file.tokens:,} | {file.supervised_tokens:,} | `{file.sha256[:12]}` |"
        for file in record.data
    )
    recipe = "\n".join(f"| {name} | {value} |" for name, value in record.recipe.items())
    scores = "\n".join(f"| {name} | {value} |" for name, value in record.scores.items()) or "| not measured | |"
    return f"""---
license: {licence}
base_model: {base}
library_name: peft
pipeline_tag: text-generation
tags: [thousand, lima, lora]
language: en
---

# {record.name}

A chat assistant made with [Thousand](https://pypi.org/project/thousand-assistant/) {record.version}, {record.created:%Y-%m-%d}:
`{base}` fine-tuned with LoRA on {dialogues} dialogues, loss on the assistant's tokens only.

It has the manner of an assistant, and the knowledge of its base model: it can be wrong about facts, and should not be
relied on for medical, legal or money matters.

Every answer ends with the token {record.template["stop_id"]} (rule: {record.template["stop_rule"]}).
Turns are marked as in the {record.template["family"]} family.

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
