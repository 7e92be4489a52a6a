"""The process of one llama.cpp engine: loads a model, serves it on a socket, and ends with the process that started it.

Run as a script by `serve.engines.llama_cpp`, with llama.cpp's parameters as JSON. It prints one line of JSON once the
model is loaded, or why it is not.

It is a process of its own because xllamacpp holds Python's global lock while it loads a model and while it frees one,
seconds in which a server in the same process answers nobody. Also, what kills it kills no other engine.
"""

import ctypes
import importlib.util
import json
import os
import signal
import sys
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any


def load_openmp() -> None:
    """xllamacpp links the system's libgomp, which a bare machine may lack; PyTorch brings one."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        found = importlib.util.find_spec("torch")
        if found is not None and found.origin is not None:
            own = Path(found.origin).parent / "lib" / "libgomp.so.1"
            if own.exists():
                ctypes.CDLL(str(own))


def serve(settings: dict[str, Any]) -> None:
    """Serve until standard input ends, which it does when the process at its other end does."""
    for ending in (signal.SIGINT, signal.SIGTERM):  # they are for that process, which still has answers to give
        signal.signal(ending, signal.SIG_IGN)
    load_openmp()
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    for name, value in settings.items():
        inside, _, last = name.rpartition(".")
        setattr(attrgetter(inside)(parameters) if inside else parameters, last, value)
    try:
        _server = xllamacpp.Server(parameters)  # it lives as long as there is a name for it
    except RuntimeError as error:
        _tell(str(error))
        return
    _tell(None)
    sys.stdin.read()
    os._exit(0)  # without freeing the model, which takes its time, and for ever if its server has only just begun


def _tell(problem: str | None) -> None:
    with suppress(BrokenPipeError):  # that process has ended meanwhile
        print(json.dumps({"problem": problem}), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
