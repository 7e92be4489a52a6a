"""The command itself: its help, and that no command starts slowly for nothing."""

import subprocess
import sys

import pytest

from tests.conftest import Command

VERBS = [
    [],
    ["train"],
    ["train", "sweep"],
    ["chat"],
    ["serve"],
    ["releases"],
    ["releases", "promote"],
    ["releases", "export"],
    ["data", "show"],
    ["data", "audit"],
    ["data", "stats"],
    ["data", "convert"],
    ["data", "schema"],
    ["evaluate", "dev"],
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help(thousand: Command, verb: list[str]) -> None:
    result = thousand(*verb, "--help")
    assert result.code == 0
    assert "Usage: " in result.out


def test_an_unknown_option_is_named(thousand: Command) -> None:
    result = thousand("train", "--epochs", "3")
    assert result.code == 2
    assert "--epochs" in result.err


def test_help_loads_neither_torch_nor_gradio() -> None:
    program = "import sys; from assistant import cli; print([m for m in ('torch', 'gradio', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
