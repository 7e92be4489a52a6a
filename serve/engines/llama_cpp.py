"""llama.cpp in this process (xllamacpp): the engine for a CPU.

The release is merged into one GGUF file, once, cached by the hash of what went in. llama.cpp's own server always opens
a listener that asks for no key, so it gets a Unix socket in a folder that only this user can enter; closing the
connection of a stream is what cancels its work between two tokens.
"""

import asyncio
import ctypes
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from filelock import FileLock

from assistant import base_model, release
from assistant.base_model import Base
from assistant.errors import ThousandError
from assistant.files import atomic_path
from assistant.gguf_merge import Progress
from assistant.gguf_write import write_gguf
from assistant.release import Release
from assistant.sampling import Sampling
from assistant.settings import settings
from assistant.template import Template
from serve.engines import unix_http
from serve.engines.base import Delta, EngineError, Finish, FinishReason
from serve.engines.parameters import llama_cpp


def _load_openmp() -> None:
    """xllamacpp links the system's libgomp, which a bare machine may lack; PyTorch brings one."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        found = importlib.util.find_spec("torch")
        if found is not None and found.origin is not None:
            own = Path(found.origin).parent / "lib" / "libgomp.so.1"
            if own.exists():
                ctypes.CDLL(str(own))


_load_openmp()
import xllamacpp  # noqa: E402

SLOTS = 4
"""Answers at a time; more wait."""

BATCH = 256
"""Prompt tokens read at a time: a client that leaves while its prompt is read waits for one batch at most."""


def merged_gguf(
    base: Base,
    place: Path | None,
    record: Release | None,
    template: Template,
    say: base_model.Say,
    progress: Progress = lambda done, total: None,
) -> Path:
    """The GGUF file of a release (or of the plain base model, with no release), made on first use.

    Raises ThousandError when the base model's architecture cannot be written as GGUF, or the disk is full.
    """
    adapter = None
    if place is None or record is None:
        if base.gguf is not None:
            return base.gguf
        name, key = "base", base.checksum
    else:
        adapter = release.adapter_of(place, record)
        name, key = record.name, f"{base.checksum} {record.adapter_sha256}"
    digest = hashlib.sha256(f"{key} {template.jinja()} {template.stop_id} q8_0 2".encode()).hexdigest()[:24]
    target = settings().home / "merged" / f"{name}-{digest}.gguf"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.exists():
                say(f"Making one GGUF file of {base.name if record is None else record.name} (once)")
                with atomic_path(target) as temporary:
                    write_gguf(base, adapter, template, temporary, progress)
    except OSError as error:
        raise base_model.disk_error(error, settings().home) from error
    return target


class LlamaCpp:
    """The Engine over xllamacpp's server."""

    name = "llama.cpp"
    reads_text = False

    def __init__(self, gguf: Path, *, context: int = 4096, slots: int = SLOTS, threads: int | None = None) -> None:
        """Load the model: `slots` answers at a time, each with `context` tokens.

        Raises ThousandError when llama.cpp cannot load it.
        """
        self.context = context
        self._folder = Path(tempfile.mkdtemp(prefix="thousand-"))
        self._socket = self._folder / "engine.sock"
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(gguf)
        parameters.hostnames = [str(self._socket)]
        parameters.n_ctx = context * slots
        parameters.n_parallel = slots
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.cpuparams.n_threads = threads or len(os.sched_getaffinity(0))
        parameters.swa_full = True  # else the prefix of an earlier turn cannot be used again
        parameters.cache_ram_mib = 0
        parameters.fit_params = False
        parameters.ui = False
        parameters.endpoint_slots = False
        parameters.verbosity = 0
        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise ThousandError(f"llama.cpp cannot load {gguf}: {error}.") from None

    async def ready(self) -> bool:
        """Whether the engine answers."""
        try:
            async with asyncio.timeout(5), aclosing(unix_http.pieces(self._socket, "/health")) as answer:
                await anext(answer)
        except (OSError, EOFError, TimeoutError, unix_http.Status):
            return False
        return True

    async def close(self) -> None:
        """Free the model and the socket."""
        del self._server
        shutil.rmtree(self._folder, ignore_errors=True)

    async def stream(self, prompt: Sequence[int], sampling: Sampling) -> AsyncIterator[Delta | Finish]:
        """See Engine. Raises EngineError when llama.cpp refuses or fails.

        Its text is taken, not its tokens: of a character that several tokens make, it reports the last token only.
        """
        told = 0
        request = {"prompt": list(prompt), "stream": True, "cache_prompt": True, **llama_cpp(sampling)}
        try:
            async with aclosing(_events(self._socket, request)) as events:
                async for event in events:
                    held_back, told = event["tokens_predicted"] - told, event["tokens_predicted"]
                    if event["stop"]:
                        if held_back:  # of a character that was never completed
                            yield Delta("\ufffd", held_back)
                        reason: FinishReason = "length" if event["stop_type"] == "limit" else "stop"
                        yield Finish(reason, event["timings"].get("cache_n", 0))
                        return
                    yield Delta(event["content"], held_back)
        except unix_http.Status as error:
            raise EngineError(f"llama.cpp answered {error}") from None
        except (OSError, EOFError) as error:
            raise EngineError(f"llama.cpp went away: {error}") from error
        raise EngineError("llama.cpp ended its stream without a finish")


async def _events(socket: Path, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(unix_http.lines(socket, "/completion", request)) as lines:
        async for line in lines:
            if line.startswith((b"error:", b'data: {"error"')):
                raise EngineError(f"llama.cpp failed: {line.decode(errors='replace')[:500]}")
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))
