"""A judge model: a language model at an OpenAI-compatible endpoint that is asked what it thinks of answers.

A judge that fails is counted as failed, never as a vote or a grade.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr

from assistant.dialogue import is_text
from assistant.errors import ThousandError
from assistant.settings import settings

CONCURRENT = 4
ATTEMPTS = 3
BACK_OFF = 2.0
"""Seconds before the second attempt; twice as many before each next one."""
PATIENCE, CONNECT = 120.0, 10.0
"""Seconds that a whole reply, and a connection, may take."""
GIVE_UP = 5
"""Questions in a row without a reply after which the judge is down, and is not asked further."""
LONGEST_REPLY = 400
"""Tokens of a reply."""


class JudgeName(BaseModel):
    """Which judge it is; what may be written down of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    model: str

    def __str__(self) -> str:
        return f"{self.model} at {self.url}"


@dataclass(frozen=True)
class Judge:
    """Where the judge is."""

    url: str
    """The root of the API, such as `http://127.0.0.1:8000/v1`."""
    model: str
    key: SecretStr | None = None

    @property
    def name(self) -> JudgeName:
        return JudgeName(url=self.url, model=self.model)


def judge_at(url: str, model: str | None, asked_by: str, model_by: str) -> Judge:
    """The judge at an address, with THOUSAND_JUDGE_KEY if that is set. `asked_by` and `model_by` are what the two were given
    with. Raises ThousandError when it is named in part or is no address."""
    if not re.match(r"https?://[^/\s]", url):
        raise ThousandError(f"{asked_by} is {url!r}, no address; give one such as http://127.0.0.1:8000/v1")
    if urlsplit(url).username is not None:
        raise ThousandError(
            f"{asked_by} holds a name or a password, and the address is written down beside each vote; set THOUSAND_JUDGE_KEY."
        )
    if not model:
        raise ThousandError(f"{asked_by} is set without {model_by}: name the model that judges.")
    return Judge(url.rstrip("/"), model, settings().judge_key)


def from_settings() -> Judge | None:
    """The judge that the environment names, if any. Raises ThousandError when it is named in part or is no address."""
    url = settings().judge_url
    if url is None:
        return None
    return judge_at(url, settings().judge_model, "THOUSAND_JUDGE_URL", "THOUSAND_JUDGE_MODEL")


def named_in_settings() -> JudgeName | None:
    """The name of the judge that the environment names, if any. Raises what `from_settings` raises."""
    judge = from_settings()
    return None if judge is None else judge.name


@dataclass(frozen=True)
class Said:
    """What came of one question."""

    reply: str | None
    """What the judge wrote, word for word; None when it failed."""
    failure: str | None
    """Why there is no reply."""
    cut: bool = False
    """It came to the end of its tokens, perhaps before what it was asked for."""


def request(judge: JudgeName, system: str, question: str) -> dict[str, Any]:
    """The body of a question: greedy, so that the same question gets the same reply."""
    return {
        "model": judge.model,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": LONGEST_REPLY,
    }


def _read(body: bytes) -> Said:
    """The text of a chat completion, if the body is one."""
    try:
        choice = json.loads(body)["choices"][0]
        content, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
    except (ValueError, LookupError, TypeError, AttributeError):
        content, cut = None, False
    if isinstance(content, str) and is_text(content):
        return Said(content, None, cut)
    return Said(None, "the response is no chat completion")


class Line:
    """A judge that is asked, by several threads at once."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._unanswered = 0
        self.failure = ""
        """The last one."""

    @property
    def down(self) -> bool:
        """It did not reply several times in a row."""
        return self._unanswered >= GIVE_UP

    def ask(self, body: dict[str, Any]) -> Said:
        """The reply to a `request`, unless the judge is down."""
        if self.down:
            return Said(None, f"not asked: the judge had not replied {GIVE_UP} times in a row")
        said = self._ask(body)
        with self._lock:
            if said.failure is None:
                self._unanswered = 0
            else:
                self._unanswered += 1
                self.failure = said.failure
        return said

    def _ask(self, body: dict[str, Any]) -> Said:
        """The reply, or the reason of the last failure. Only what may pass by itself is tried again."""
        failure = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(BACK_OFF * 2 ** (attempt - 1))
            try:
                status, said = self._post(body)
            except httpx.HTTPError as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if status == 200:
                return _read(said)
            failure = f"HTTP {status}: {said[:200].decode(errors='replace')}"
            if status not in (408, 429) and status < 500:
                break
        return Said(None, failure)

    def _post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body. The client's own timeout is between two bytes, and a proxy may send blanks for ever."""
        late, said = time.monotonic() + PATIENCE, b""
        with self._client.stream("POST", "/chat/completions", json=body) as response:
            for part in response.iter_bytes():
                said += part
                if time.monotonic() > late:
                    raise httpx.ReadTimeout(f"no whole reply within {PATIENCE:g} seconds")
        return response.status_code, said


@contextmanager
def line_to(judge: Judge) -> Iterator[Line]:
    """The judge, ready to be asked."""
    headers = {"Authorization": f"Bearer {judge.key.get_secret_value()}"} if judge.key else {}
    timeout = httpx.Timeout(PATIENCE, connect=CONNECT)
    with httpx.Client(base_url=judge.url, headers=headers, timeout=timeout) as client:
        yield Line(client)
