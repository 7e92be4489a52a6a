"""llama.cpp (xllamacpp): the engine for a CPU.

The release is merged into one GGUF file, once, cached by the hash of what went in. llama.cpp's own server always opens
a listener that asks for no key, so it gets a Unix socket in a folder that only this user can enter; closing the
connection of a stream is what cancels its work between two tokens.
"""

import asyncio
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from filelock import FileLock

from assistant import base_model, opening
from assistant.base_model import Base
from assistant.errors import ThousandError
from assistant.files import atomic_path
from assistant.gguf_merge import Progress
from assistant.gguf_write import write_gguf
from assistant.release import Release
from assistant.sampling import Sampling
from assistant.settings import settings
from assistant.template import Template
from serve.engines import likelihoods, llama_process, unix_http
from serve.engines.base import PLAIN, Delta, EngineError, Finish, FinishReason, Wanted
from serve.engines.parameters import OFFERS, llama_cpp
from serve.engines.places import Places
from serve.engines.private_folder import PrivateFolder

log = logging.getLogger("thousand")

BATCH = 256
"""Prompt tokens read at a time: a client that leaves while its prompt is read waits for one batch at most."""

SLOTS = 8
"""Answers at a time; each has room for a whole context, 75 MB with the embedded base."""


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
        adapter = opening.adapter_of(place, record)
        name, key = record.name, f"{base.checksum} {record.adapter_sha256}"
    digest = hashlib.sha256(f"{key} {template.jinja()} {template.stop_id} q8_0 2".encode()).hexdigest()[:24]
    target = settings().home / "merged" / f"{name}-{digest}.gguf"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.exists():
                say(f"Making one GGUF file of {base.name if record is None else record.name} (once)")
                for left_over in target.parent.glob(f".{target.name}.*"):  # of a process that was killed
                    left_over.unlink()
                with atomic_path(target) as temporary:
                    write_gguf(base, adapter, template, temporary, progress)
    except OSError as error:
        raise base_model.disk_error(error, settings().home) from error
    return target


class LlamaCpp:
    """The Engine over xllamacpp's server, in a process of its own (`llama_process` says why)."""

    name = "llama.cpp"
    reads_text = False
    offers = frozenset(OFFERS["llama.cpp"])

    def __init__(self, gguf: Path, *, context: int = 4096, slots: int = SLOTS, threads: int | None = None) -> None:
        """Load the model: `slots` answers at a time, each with `context` tokens.

        Raises ThousandError when llama.cpp cannot load it.
        """
        self.context = context
        self._folder = PrivateFolder()
        self._socket = self._folder.path / "engine.sock"
        self._gguf = gguf
        self._settings = {
            "model.path": str(gguf),
            "hostnames": [str(self._socket)],
            "n_ctx": context * slots,
            "n_parallel": slots,
            "n_batch": BATCH,
            "n_ubatch": BATCH,
            "cpuparams.n_threads": threads or len(os.sched_getaffinity(0)),
            "swa_full": True,  # else the prefix of an earlier turn cannot be used again
            "cache_ram_mib": 0,
            "fit_params": False,
            "ui": False,
            "endpoint_slots": False,
            "verbosity": 0,
        }
        try:
            self._process = self._start()
        except BaseException:
            self._folder.remove()
            raise
        self._one_start = asyncio.Lock()
        self._places = Places(slots)

    def _start(self) -> "subprocess.Popen[str]":
        self._socket.unlink(missing_ok=True)  # of a process that died
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", llama_process.__file__, json.dumps(self._settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            told = process.stdout.readline()
            problem = json.loads(told)["problem"] if told else f"its process ended with {process.wait()}"
            if problem is not None:
                raise ThousandError(f"llama.cpp cannot load {self._gguf}: {problem}.")
        except BaseException:
            _end(process)
            raise
        return process

    async def _living(self) -> None:
        """Start the process again if it died, as it does when llama.cpp fails an assertion or memory is short.

        Raises EngineError when that cannot be done.
        """
        async with self._one_start:
            if self._process.poll() is not None:
                log.warning("llama.cpp's process ended with %d; it is started again", self._process.returncode)
                _end(self._process)
                try:
                    self._process = await asyncio.to_thread(self._start)
                except ThousandError as error:
                    raise EngineError(str(error)) from None

    async def ready(self) -> bool:
        """Whether the engine answers."""
        try:
            await self._living()
            async with asyncio.timeout(5), aclosing(unix_http.pieces(self._socket, "/health")) as answer:
                await anext(answer)
        except (OSError, EOFError, TimeoutError, unix_http.Status, EngineError):
            return False
        return True

    async def close(self) -> None:
        """Free the model and the socket."""
        await asyncio.to_thread(_end, self._process)
        self._folder.remove()

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, wanted: Wanted = PLAIN
    ) -> AsyncIterator[Delta | Finish]:
        """See Engine. Raises EngineError when llama.cpp refuses or fails.

        Its text is taken, not its tokens: of a character that several tokens make, it reports the last token only.
        """
        told = 0
        request = {"prompt": list(prompt), "stream": True, "cache_prompt": True, **llama_cpp(sampling, wanted)}
        try:
            async with aclosing(self._placed(prompt, request)) as events:
                async for event in events:
                    held_back, told = event["tokens_predicted"] - told, event["tokens_predicted"]
                    if event["stop"]:
                        if held_back:  # of a character that was never completed
                            yield Delta("\ufffd", held_back)
                        reason: FinishReason = "length" if event["stop_type"] == "limit" else "stop"
                        yield Finish(reason, event["timings"].get("cache_n", 0))
                        return
                    told_of = event.get("completion_probabilities", ())
                    yield Delta(event["content"], held_back, likelihoods.llama_cpp(told_of, event["content"], wanted))
        except unix_http.Status as error:
            raise EngineError(f"llama.cpp answered {error}") from None
        except (OSError, EOFError) as error:
            raise EngineError(f"llama.cpp went away: {error}") from error
        raise EngineError("llama.cpp ended its stream without a finish")

    async def _placed(self, prompt: Sequence[int], request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of an answer, made where it suits."""
        with self._places.place(prompt) as place:
            await self._living()
            asked = request if place.number is None else {**request, "id_slot": place.number}
            async with aclosing(_events(self._socket, asked)) as events:
                async for event in events:
                    self._places.found(place, event["id_slot"])
                    yield event


def _end(process: "subprocess.Popen[str]") -> None:
    """End an engine's process, which has nothing to save."""
    process.kill()
    process.communicate()


async def _events(socket: Path, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(unix_http.lines(socket, "/completion", request)) as lines:
        async for line in lines:
            if line.startswith((b"error:", b'data: {"error"')):
                raise EngineError(f"llama.cpp failed: {line.decode(errors='replace')[:500]}")
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))
