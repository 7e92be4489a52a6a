"""A release in the formats that other programs load: an adapter, a whole model, a GGUF file, an Ollama model."""

import errno
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError

from assistant import base_model, opening, release
from assistant.base_model import Base, Say
from assistant.errors import ThousandError
from assistant.files import atomic_folder, write_text
from assistant.gguf_merge import Progress
from assistant.gguf_write import write_gguf
from assistant.model_card import model_card
from assistant.release import ADAPTER, Release
from assistant.template import Template
from train.modelfile import modelfile

Format = Literal["peft", "safetensors", "gguf", "ollama"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


@dataclass(frozen=True)
class _Opened:
    """A release with all that it takes to write it elsewhere."""

    place: Path
    adapter: Path | None
    """None for a release that is a whole model."""
    record: Release
    base: Base
    template: Template
    say: Say
    progress: Progress


def export(name: str, folder: Path, to: Format, say: Say, progress: Progress = lambda done, total: None) -> None:
    """Write a release into a new folder, whole or not at all, with a card and the notices of its base model.

    `peft`: the adapter as PEFT loads it on the base model, and the tokenizer. `safetensors`: the base model with the
    adapter merged in, as transformers loads it. `gguf`: that as one file, which llama.cpp loads; it holds the template.
    `ollama`: the GGUF file and a Modelfile.

    Raises ThousandError when the release or its base is not whole, when the folder exists, when the disk is full, or
    when the base's architecture cannot be written as GGUF.
    """
    place = release.path(name, say)
    if folder.exists():
        raise ThousandError(f"{folder} exists already, and an export never overwrites; give a new folder.")
    record = release.read(place)
    adapter = opening.adapter_of(place, record)
    if adapter is None and to == "peft":
        raise ThousandError(f"The release {name} is a whole model and has no adapter; export it with: --to safetensors")
    base, template = opening.open_parts(place, record, say)
    opened = _Opened(place, adapter, record, base, template, say, progress)
    try:
        with atomic_folder(folder) as temporary:
            _WRITERS[to](opened, temporary)
            write_text(temporary / "README.md", model_card(record, library=_LIBRARIES[to]))
            for notice in _notices(place):
                shutil.copyfile(notice, temporary / notice.name)
            for file in temporary.iterdir():
                file.chmod(0o644)  # safetensors lets nobody else read what it writes
    except SafetensorError as error:
        raise base_model.disk_error(_as_os_error(error), folder, move="export to") from error
    except OSError as error:
        raise base_model.disk_error(error, folder, move="export to") from error


def _as_os_error(error: SafetensorError) -> OSError:
    """safetensors tells of a failed write in words only: "I/O error: ... (os error 28)"."""
    code = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(code[1]) if code else errno.EIO, str(error))


def _notices(place: Path) -> list[Path]:
    return sorted([*place.glob("NOTICE*"), *place.glob("BASE_*")])


def _copy(opened: _Opened, folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        shutil.copyfile(opened.place / name, folder / name)


def _write_peft(opened: _Opened, folder: Path) -> None:
    _copy(opened, folder, (ADAPTER, *TOKENIZER_FILES))
    config = json.loads((opened.place / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = opened.record.base_name
    write_text(folder / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")


def _write_safetensors(opened: _Opened, folder: Path) -> None:
    """Merged in float32, then in the precision of the base."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    base_model.quiet_transformers()
    weights = base_model.weights_folder(opened.base, opened.say)
    opened.say("Merging the adapter into the base model's weights")
    with base_model.loading(weights):
        precision = AutoConfig.from_pretrained(weights, trust_remote_code=False).dtype or torch.float32
        model = AutoModelForCausalLM.from_pretrained(
            weights, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
    if opened.adapter is not None:
        model = PeftModel.from_pretrained(model, opened.adapter).merge_and_unload()
    model = model.to(precision)
    model.config.eos_token_id = opened.template.stop_id
    # Of the base as it is served: a compact vocabulary has other ids than the tokenizer beside the adapter.
    release.save_tokenizer(folder, opened.base.folder, opened.record.sampling, opened.template.stop_rule)
    model.generation_config = GenerationConfig.from_pretrained(folder)
    model.save_pretrained(folder)


def _write_gguf(opened: _Opened, folder: Path) -> None:
    target = folder / f"{opened.record.name}.gguf"
    write_gguf(opened.base, opened.adapter, opened.template, target, opened.progress)


def _write_ollama(opened: _Opened, folder: Path) -> None:
    _write_gguf(opened, folder)
    notices = [notice.read_text(encoding="utf-8") for notice in _notices(opened.place)]
    write_text(folder / "Modelfile", modelfile(opened.record, opened.template, notices))


_WRITERS: dict[Format, Callable[[_Opened, Path], None]] = {
    "peft": _write_peft,
    "safetensors": _write_safetensors,
    "gguf": _write_gguf,
    "ollama": _write_ollama,
}
_LIBRARIES: dict[Format, str] = {"peft": "peft", "safetensors": "transformers", "gguf": "gguf", "ollama": "gguf"}
