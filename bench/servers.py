"""The servers that are measured, each in a process of its own and as its users start it."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from asking import Question, Server

from assistant.base_model import Base, weights_folder
from assistant.dialogue import Message
from assistant.sampling import Sampling
from assistant.template import Template
from serve.engines.parameters import llama_cpp, transformers_serve

THREADS = len(os.sched_getaffinity(0))

STOCK = Path(__file__).with_name("serve_gguf.py")
"""llama.cpp's server with its own defaults but for the slots, which are as many as ours, and the threads."""


@contextmanager
def _started(command: Sequence[object], port: int, ready: str, **environment: str) -> Iterator[psutil.Process]:
    """The process of a server that answers; ended at the end. Exits with what it said when it does not come up."""
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            list(map(str, command)),
            env={**inherited, "HF_HUB_OFFLINE": "1", **environment},
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                with suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}{ready}").is_success:
                        break
                if process.poll() is not None:
                    said.seek(0)
                    sys.exit(f"{' '.join(map(str, command[:5]))} ended: {said.read()[-2000:]}")
                time.sleep(0.2)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


def ask_ours(messages: Sequence[Message], sampling: Sampling) -> Question:
    """A question to our endpoint."""
    settings = sampling.model_dump(exclude={"stop"}, exclude_none=True)
    said = [message.model_dump() for message in messages]
    return "/v1/chat/completions", {"model": "thousand", "messages": said, **settings, **STREAMED}


@contextmanager
def thousand(template: Template, *options: str) -> Iterator[tuple[Server, Server]]:
    """`thousand serve`, and the llama.cpp inside it asked as the endpoint asks it, with the release's `template`."""
    port = _free_port()
    command = [sys.executable, "-m", "assistant", "serve", "--port", port, *options]

    def ask_engine(messages: Sequence[Message], sampling: Sampling) -> Question:
        request = {"prompt": template.prompt(messages), "stream": True, "cache_prompt": True, **llama_cpp(sampling)}
        return "/completion", request

    with (
        tempfile.TemporaryDirectory() as temporary,
        _started(command, port, "/ready", TMPDIR=temporary) as process,
    ):
        inner = next(Path(temporary).rglob("engine.sock"))
        yield Server("thousand", process, port, ask_ours), Server("llama.cpp inside", process, inner, ask_engine)


@contextmanager
def stock(base: Base, template: Template, slots: int) -> Iterator[tuple[Server, Server]]:
    """llama.cpp's server on the base as it is, which goes on to the last token asked for; and the same one asked with
    its own `top_k` of 40 left on."""
    assert base.gguf is not None
    port = _free_port()

    def question(messages: Sequence[Message], sampling: Sampling, **more: object) -> Question:
        fields: dict[str, Any] = {"max_tokens": sampling.max_tokens, "ignore_eos": True}
        fields["temperature"] = sampling.temperature
        if sampling.temperature > 0:
            fields |= {"top_p": sampling.top_p, "repeat_penalty": sampling.repetition_penalty, "seed": sampling.seed}
            fields |= {"repeat_last_n": 256, **more}
        return "/v1/completions", {"prompt": template.prompt(messages), **fields, **STREAMED}

    def same(messages: Sequence[Message], sampling: Sampling) -> Question:
        return question(messages, sampling, samplers=["penalties", "temperature", "top_p"])

    command = [sys.executable, STOCK, base.gguf, "--port", port, "--slots", slots, "--threads", THREADS]
    with _started(command, port, "/health") as process:
        yield Server("llama.cpp", process, port, same), Server("llama.cpp, top_k 40", process, port, question)


@contextmanager
def transformers(base: Base, template: Template) -> Iterator[Server]:
    """`transformers serve` on the base's safetensors."""
    folder, port = weights_folder(base), _free_port()

    def question(messages: Sequence[Message], sampling: Sampling) -> Question:
        fields = transformers_serve(sampling, template.stop_id)
        prompt = template.as_text(template.prompt(messages))
        return "/v1/completions", {"model": str(folder), "prompt": prompt, **fields, **STREAMED}

    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", folder, "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    with _started(command, port, "/health") as process:
        yield Server("transformers serve", process, port, question)
