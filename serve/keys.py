"""The API keys that are let in: THOUSAND_API_KEY, and the lines of a file that is read again whenever it changes."""

import hashlib
import hmac
import logging
import re
from pathlib import Path

from pydantic import SecretStr

from assistant.errors import ThousandError

log = logging.getLogger("thousand")

LEAST = 16
"""Characters of the shortest key: wrong keys are not counted, so that nobody can lock others out; a key must be unguessable."""

OWN = "default"
"""What the key from THOUSAND_API_KEY is called in the log and in metrics."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[!-~]+")
_MAKE = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _key_problem(key: str) -> str | None:
    if not _KEY.fullmatch(key):
        return "holds other than printable ASCII characters"
    if len(key) < LEAST:
        return f"has {len(key)} characters and needs {LEAST}"
    return None


def _parse(text: str) -> tuple[dict[str, bytes], list[str]]:
    """The digests by name, and what is wrong, by line."""
    found: dict[str, bytes] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            problems.append(f"line {number} is not a name and a key with a space between")
            continue
        name, key = words
        problem = None if _NAME.fullmatch(name) else "name is not of letters, digits, dots, dashes and underscores"
        if name in found or name == OWN:
            problem = f"name {name} is already taken"
        elif problem is None and (problem := _key_problem(key)):
            problem = f"key {problem}"
        if problem:
            problems.append(f"line {number}: the {problem}")
        found[name] = _digest(key)
    return found, problems


def _read(file: Path) -> dict[str, bytes]:
    """The digests by name. Raises ThousandError with all that is wrong with the file."""
    try:
        if file.stat().st_mode & 0o007:
            raise ThousandError(f"{file} can be read by everybody on this machine; run: chmod o= {file}")
        found, problems = _parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ThousandError(f"The keys in {file} (THOUSAND_API_KEYS_FILE) cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ThousandError(f"{file} (THOUSAND_API_KEYS_FILE) is not UTF-8 text.") from None
    if problems:
        raise ThousandError(f"{file} (THOUSAND_API_KEYS_FILE): {'; '.join(problems)}. One line is a name and a key.")
    return found


def _stamp(file: Path) -> tuple[int, ...] | None:
    """What changes when the file does."""
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Keys:
    """Who may come in. Without a key and a file nobody is asked."""

    def __init__(self, key: SecretStr | None = None, file: Path | None = None) -> None:
        """Raises ThousandError when a key is too weak, or the file is broken, holds no key, or is open to everybody."""
        self._own: dict[str, bytes] = {}
        if key is not None:
            if problem := _key_problem(key.get_secret_value()):
                raise ThousandError(f"THOUSAND_API_KEY {problem}; {_MAKE}")
            self._own[OWN] = _digest(key.get_secret_value())
        self._file = file
        self._listed: dict[str, bytes] = {}
        if file is not None:
            self._seen = _stamp(file)
            self._listed = _read(file)
            if not self._listed:
                raise ThousandError(f"{file} (THOUSAND_API_KEYS_FILE) holds no key, so nobody could come in; {_MAKE}")

    @property
    def asked(self) -> bool:
        """Whether a key is asked for."""
        return bool(self._own) or self._file is not None

    def check(self, given: str) -> tuple[str, bytes] | None:
        """The name and the digest of a key, or None for one that is not known (any more).

        All keys are looked at, each in constant time, so that how long it takes tells nothing.
        """
        return self.find(_digest(given))

    def find(self, digest: bytes) -> tuple[str, bytes] | None:
        """The same for a key of which only the digest was kept."""
        found = None
        for name, known in {**self._own, **self._current()}.items():
            if hmac.compare_digest(digest, known):
                found = (name, known)
        return found

    def _current(self) -> dict[str, bytes]:
        """The file's keys as they are now. A file that cannot be read or is broken leaves the last good ones; an empty
        one lets nobody in."""
        if self._file is not None and (stamp := _stamp(self._file)) != self._seen:
            self._seen = stamp
            try:
                self._listed = _read(self._file)
                log.info("read %d keys from %s", len(self._listed), self._file)
            except ThousandError as error:
                log.error("the keys stay as they were: %s", error)
        return self._listed
