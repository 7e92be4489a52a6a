"""A real `thousand serve` in a process of its own."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT, text=True)

        def words() -> str:
            said.seek(0)
            return said.read()

        try:
            _wait_until_ready(address, process, within, words)
            yield address
            process.terminate()
            process.wait(30)
            assert "Traceback" not in words(), words()
        finally:
            process.kill()
            process.wait()


def _wait_until_ready(address: str, process: subprocess.Popen[str], within: float, words: Callable[[], str]) -> None:
    end = time.monotonic() + within
    with httpx.Client() as client:
        while time.monotonic() < end:
            if process.poll() is not None:
                raise AssertionError(words())
            with suppress(httpx.TransportError):
                if client.get(f"{address}/ready").status_code == 200:
                    return
            time.sleep(0.1)
    raise AssertionError(f"the server did not become ready: {words()}")
