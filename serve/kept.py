"""`kept.jsonl`: the dialogues that were accepted, one a line, in THOUSAND_HOME. It is the user's own file: lines that are not
understood stay as they are."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from filelock import FileLock

from assistant.files import atomic_path
from assistant.settings import settings


def kept_file() -> Path:
    """Where it is; it may not be there yet."""
    return settings().home / "kept.jsonl"


def lock() -> FileLock:
    """Held by whoever changes the file, or decides that it will be changed."""
    settings().home.mkdir(parents=True, exist_ok=True)
    return FileLock(settings().home / "kept.lock")


def _lines() -> list[bytes]:
    try:
        return kept_file().read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def _id(line: bytes) -> str | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value.get("id") if isinstance(value, dict) else None


def _replace(lines: Iterable[bytes]) -> None:
    with atomic_path(kept_file()) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_bytes(b"".join(lines))


def append(new: Mapping[str, str]) -> None:
    """Put in the lines whose ids, the mapping's keys, the file does not have yet. Hold the lock."""
    lines = _lines()
    known = {_id(line) for line in lines}
    missing = [line.encode() + b"\n" for identifier, line in new.items() if identifier not in known]
    if missing:
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += b"\n"
        _replace([*lines, *missing])


def remove(identifiers: Iterable[str]) -> int:
    """Take out the lines with these ids; returns how many there were. Hold the lock."""
    gone = set(identifiers)
    lines = _lines()
    rest = [line for line in lines if _id(line) not in gone]
    if len(rest) < len(lines):
        _replace(rest)
    return len(lines) - len(rest)
