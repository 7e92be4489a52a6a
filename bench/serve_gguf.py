"""llama.cpp's own HTTP server (that of the xllamacpp package) on any GGUF file, with its chat template: a system to evaluate or to
measure beside ours.

    python bench/serve_gguf.py MODEL.gguf --port 8001

It serves http://127.0.0.1:8001/v1 until it is interrupted or its standard input ends, which keeps it from outliving who started it.
"""

import argparse
import os
import sys
from pathlib import Path

import xllamacpp


def main() -> None:
    """Serve a file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("gguf", type=Path)
    options.add_argument("--port", type=int, default=8001)
    options.add_argument("--slots", type=int, default=8, help="Answers at a time.")
    options.add_argument(
        "--context", type=int, help="Tokens of a conversation; by default all places share the model's."
    )
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = options.parse_args()
    if not given.gguf.is_file():
        sys.exit(f"{given.gguf} is no file.")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(given.gguf)
    parameters.hostnames, parameters.port = ["127.0.0.1"], given.port
    parameters.n_parallel, parameters.cpuparams.n_threads = given.slots, given.threads
    if given.context is not None:
        parameters.n_ctx = given.context * given.slots
    server = xllamacpp.Server(parameters)
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
