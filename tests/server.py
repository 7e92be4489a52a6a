"""A real `thousand serve` in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(home: Path, *options: str, key: str | None = None, within: float = 180) -> Iterator[str]:
    """Start the server and wait until it is ready; yields its address. It must end by itself on SIGTERM."""
    port = free_port()
    environment = {**os.environ, "THOUSAND_HOME": str(home)}
    environment.pop("OMP_NUM_THREADS", None)
    if key is not None:
        environment["THOUSAND_API_KEY"] = key
    command = [sys.executable, "-m", "assistant", "serve", "--port", str(port), *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(address, process, within)
        yield address
        process.terminate()
        said, _ = process.communicate(timeout=30)
        assert "Traceback" not in said, said
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(address: str, process: subprocess.Popen[str], within: float) -> None:
    end = time.monotonic() + within
    transport = httpx.HTTPTransport(retries=0)
    with httpx.Client(transport=transport) as client:
        while time.monotonic() < end:
            if process.poll() is not None:
                raise AssertionError(process.communicate()[0])
            try:
                if client.get(f"{address}/ready").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
    raise AssertionError("the server did not become ready")
