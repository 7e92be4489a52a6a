"""The process of a llama.cpp engine whose starter is gone before it can be told that the model is loaded."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from assistant.base_model import Base
from assistant.gguf_write import write_gguf
from assistant.template import Template
from serve.engines import llama_process


def test_it_ends_without_a_word_when_its_starter_was_killed_while_it_loaded(tiny_llama: Path, tmp_path: Path) -> None:
    write_gguf(Base("tiny", "", None, tiny_llama), None, Template.load(tiny_llama), tmp_path / "tiny.gguf")
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:  # a socket's path is bounded
        settings = {"model.path": str(tmp_path / "tiny.gguf"), "hostnames": [f"{folder}/engine.sock"], "verbosity": 0}
        process = subprocess.Popen(
            [sys.executable, "-P", llama_process.__file__, json.dumps({**settings, "n_ctx": 128, "ui": False})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin and process.stdout and process.stderr
        process.stdin.close()
        process.stdout.close()
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
        with process.stderr as said:
            assert said.read() == b""
