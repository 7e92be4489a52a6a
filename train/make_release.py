"""A finished run becomes a release: adapter, tokenizer, template, record, lineage, model card, notices."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import assistant
from assistant import base_model, release
from assistant.base_model import EMBEDDED, GEMMA_NOTICE, Base
from assistant.files import atomic_folder, sha256, write_text
from assistant.lineage import write_lineage
from assistant.release import DataFile, Guard, Release
from assistant.sampling import Sampling
from assistant.template import Rendered
from train.choice_report import plot_choice
from train.faults import full_disk_told
from train.fit import Fitted
from train.session import Chosen


def make_release(chosen: Chosen, folder: Path | None = None) -> Release:
    """Write the release of a finished run into a folder of releases, by default the registry's, whole or not at all; it is not
    promoted yet.

    Raises ThousandError when the disk is full.
    """
    fitted = chosen.fitted
    run, sampling = fitted.run, Sampling()
    folder = release.folder() if folder is None else folder
    with full_disk_told(folder, run.go_on), atomic_folder(folder / run.name) as place:
        if run.recipe.method == "full":
            _save_model(fitted, place)
            tokenizer = fitted.base.folder
        else:
            _save_adapter(fitted, place)
            # An adapter is for the whole base, whatever vocabulary it was trained with.
            tokenizer = base_model.resolve(run.base).folder
        template = release.save_tokenizer(place, tokenizer, sampling, fitted.template.stop_rule)
        record = Release(
            name=run.name,
            created=release.now(),
            version=assistant.__version__,
            base=run.base,
            base_checksum=run.base_checksum,
            vocabulary=run.recipe.vocabulary,
            method=run.recipe.method,
            template=template.record(),
            recipe=run.recipe.model_dump(),
            data=_data_files(fitted),
            cut=[_without_folder(line) for line in fitted.examples.cut],
            training=fitted.measured,
            checkpoints=[scored.model_dump() for scored in chosen.candidates],
            chosen_step=chosen.scored.step,
            adapter_sha256=sha256(place / release.weights_file(run.recipe.method)),
            sampling=sampling,
            guard=None if run.replaces is None else Guard(against=run.replaces),
        )
        release.write(place, record)
        write_lineage(place, fitted.examples.dialogues)
        plot_choice(run.log, chosen.candidates, place / "training.png", title=run.name)
        if run.base == EMBEDDED:
            write_text(place / "NOTICE", GEMMA_NOTICE)
        else:
            _copy_notices(fitted.base, place)
    return record


def _save_model(fitted: Fitted, place: Path) -> None:
    """The whole model in bfloat16, in one file, as plain transformers loads it."""
    model = fitted.learner.causal
    model.config.use_cache = True
    model.config.eos_token_id = fitted.template.stop_id
    model.to(torch.bfloat16).save_pretrained(place, max_shard_size="1000GB")


def _save_adapter(fitted: Fitted, place: Path) -> None:
    """PEFT's own layout, in bfloat16: the adapter is trained against weights of that precision."""
    fitted.learner.model.save_pretrained(place, safe_serialization=True)
    (place / "README.md").unlink(missing_ok=True)
    config_file = place / "adapter_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = fitted.run.base
    write_text(config_file, json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = load_file(place / release.ADAPTER)
    save_file(
        {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()},
        place / release.ADAPTER,
        metadata={"format": "pt"},
    )


def _data_files(fitted: Fitted) -> list[DataFile]:
    """What was learnt from, file by file: cut dialogues as cut, those from which nothing is learnt not counted."""
    examples = fitted.examples
    by_file: dict[str, list[Rendered]] = {file: [] for file in fitted.run.files}
    for dialogue, rendered in zip(examples.dialogues, examples.rendered, strict=True):
        by_file[dialogue.where.rpartition(":")[0]].append(rendered)
    return [
        DataFile(
            name=Path(file).name,
            sha256=fitted.run.files[file],
            dialogues=len(rendered),
            tokens=sum(len(example.ids) for example in rendered),
            supervised_tokens=sum(example.supervised for example in rendered),
        )
        for file, rendered in by_file.items()
    ]


def _without_folder(line: str) -> str:
    """A report line with the file's name instead of its path: a release is passed on to others."""
    place, _, rest = line.partition(": ")
    return f"{Path(place).name}: {rest}"


def _copy_notices(base: Base, place: Path) -> None:
    source = base.gguf.parent if base.gguf is not None else base.folder
    for file in [*source.glob("LICENSE*"), *source.glob("NOTICE*")]:
        shutil.copyfile(file, place / f"BASE_{file.name}")
