"""A real `thousand serve` in a process of its own."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from starlette.types import ASGIApp

from serve.connection import Connection
from serve.life import Life, Server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Running:
    """A server's process, its address, and what it has printed."""

    process: subprocess.Popen[str]
    address: str
    words: Callable[[], str]
    temporary: Path
    """Its temporary folder."""


@contextmanager
def running(
    home: Path, *options: str, key: str | None = None, within: float = 180, temporary: Path | None = None
) -> Iterator[Running]:
    """Start the server and wait until it is ready; at the end it is killed if it still lives. Without a `temporary` folder it
    gets a new one, with a short name because a socket's path is bounded."""
    port = free_port()
    environment = {**os.environ, "THOUSAND_HOME": str(home)}
    environment.pop("OMP_NUM_THREADS", None)
    if key is not None:
        environment["THOUSAND_API_KEY"] = key
    command = [sys.executable, "-m", "assistant", "serve", "--port", str(port), *options]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory(prefix="t") as own:
        temporary = Path(own) if temporary is None else temporary
        environment["TMPDIR"] = str(temporary)
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT, text=True)

        def words() -> str:
            said.seek(0)
            return said.read()

        try:
            _wait_until_ready(address, process, within, words)
            yield Running(process, address, words, temporary)
        finally:
            process.kill()
            process.wait()


def end(server: Running) -> None:
    """A server must end by itself on SIGTERM, and no error may have escaped in it."""
    server.process.terminate()
    assert server.process.wait(30) == 0, server.words()
    assert "Traceback" not in server.words(), server.words()
    assert not list(server.temporary.glob("thousand-*")), "the engine's folder is gone"


@contextmanager
def serving(home: Path, *options: str, key: str | None = None, within: float = 180) -> Iterator[str]:
    """Start the server and wait until it is ready; yields its address. It must end by itself on SIGTERM."""
    with running(home, *options, key=key, within=within) as server:
        yield server.address
        end(server)


@contextmanager
def serving_app(
    app: ASGIApp, port: int = 0, *, life: Life | None = None, connection: type[Connection] = Connection
) -> Iterator[str]:
    """An application that listens in a thread of this process; yields its address. At its end it cuts what is under way."""
    listener = socket.create_server(("127.0.0.1", port))
    server = Server(app, life or Life(), drain_seconds=0, connection=connection)
    server.config.timeout_graceful_shutdown = 0
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


def wait_until(true: Callable[[], bool], what: str, within: float = 60) -> None:
    """Ask again and again; a server that cannot be reached yet counts as no."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            if true():
                return
        time.sleep(0.05)
    raise AssertionError(f"{what} within {within} seconds")


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
