"""Real OpenAI-compatible servers of others, on a tiny model: llama.cpp's own, and `transformers serve`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import xllamacpp
from transformers.cli.serve import Serve

from serve.engines.llama_cpp import LlamaCpp
from tests.server import free_port, wait_until


@contextmanager
def llama_server(gguf: Path, context: int) -> Iterator[str]:
    """llama.cpp's server with one slot; yields its OpenAI address."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = free_port()
    parameters.n_ctx = context
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 1
    parameters.swa_full = True
    parameters.fit_params = False
    parameters.endpoint_slots = True
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server


@contextmanager
def transformers_serve(folder: Path) -> Iterator[str]:
    """`transformers serve FOLDER`; yields its OpenAI address."""
    port = free_port()
    levels = {name: logging.getLogger(name).level for name in ("uvicorn", "uvicorn.error", "uvicorn.access")}
    server = Serve(
        force_model=str(folder), port=port, non_blocking=True, log_level="error", device="cpu", dtype="float32"
    )
    try:
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/health").is_success, "transformers serve answers")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill_server()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def inside(engine: LlamaCpp) -> httpx.AsyncClient:
    """A client of the llama.cpp server in an engine."""
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(engine._socket)), base_url="http://engine", timeout=60
    )
