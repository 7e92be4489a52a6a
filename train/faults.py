"""What can stop a run from outside, told in a sentence with what to do and the command that goes on."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from assistant.base_model import disk_error
from assistant.errors import ThousandError
from train.recipe import Recipe


class Diverged(ThousandError):
    """The run's numbers became none, which is the fault of its recipe."""


class OutOfMemory(ThousandError):
    """Memory ran out; with `tokens_per_micro_batch` at `fits` the run may go on, None when only another run would fit."""

    def __init__(self, message: str, fits: int | None) -> None:
        super().__init__(message)
        self.fits = fits


@contextmanager
def full_disk_told(folder: Path, go_on: str) -> Iterator[None]:
    """Turns a failed write below `folder` into ThousandError; `go_on` is the command that goes on with the run."""
    try:
        yield
    except OSError as error:
        raise ThousandError(f"{disk_error(error, folder)} Then: {go_on}") from error
    except (RuntimeError, SafetensorError) as error:
        words = str(error)
        # torch and safetensors hide the system's error number.
        if "No space left" in words or "PytorchStreamWriter" in words or "unexpected pos" in words:
            full = OSError(errno.ENOSPC, words)
            raise ThousandError(f"{disk_error(full, folder)} Then: {go_on}") from error
        raise


@contextmanager
def told(recipe: Recipe, longest: int, folder: Path, go_on: str) -> Iterator[None]:
    """Turns a failed allocation or a failed write into ThousandError; `longest` is the longest dialogue in tokens.

    `go_on` is the command that goes on with the run.
    """
    try:
        with full_disk_told(folder, go_on):
            yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise _out_of_memory(recipe, longest, go_on) from None
        raise


def _out_of_memory(recipe: Recipe, longest: int, go_on: str) -> OutOfMemory:
    now, half = recipe.tokens_per_micro_batch, max(longest, recipe.tokens_per_micro_batch // 2)
    if half < now:
        lower = f"lower tokens_per_micro_batch from {now} to {half}: {go_on} --set tokens_per_micro_batch={half}"
        return OutOfMemory(f"Out of memory; {lower}", half)
    return OutOfMemory(
        f"Out of memory; lower max_tokens from {recipe.max_tokens} to {longest // 2} and start a new run.", None
    )
