"""What the engines on other machines share: where the server is, and asking it before anything is served."""

import re
from dataclasses import dataclass
from typing import Any

import httpx2
from pydantic import SecretStr

from assistant.dialogue import Message
from assistant.errors import ThousandError
from assistant.template import Template

PATIENCE = 300.0
"""Seconds a server may take for the next token, the wait in its queue included, before it counts as gone."""
CONNECT = 10.0
"""Seconds that a connection may take."""

BUSY = (429, 503)
"""HTTP statuses that mean: not now."""
REFUSED = (400, 404, 413, 422)
"""HTTP statuses that mean: not so."""


@dataclass(frozen=True)
class Remote:
    """A server that runs the model. Raises ThousandError for what is no address."""

    url: str
    model: str | None = None
    """The adapter or model asked for there; None leaves it to the server."""
    key: SecretStr | None = None

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/\s]", self.url):
            raise ThousandError(f"--engine-url is {self.url!r}, no address; give one such as http://127.0.0.1:8080")

    @property
    def secret(self) -> str:
        """The bearer token. Without a key it is a word that says nothing, because the clients would look for a key of their own."""
        return self.key.get_secret_value() if self.key else "none"

    def ask(self, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        """The answer to one request, whatever its status but for a refused key.

        Raises ThousandError when the server cannot be reached, or asks for another key.
        """
        url = f"{self.url.rstrip('/')}/{path}"
        headers = {"Authorization": f"Bearer {self.secret}"}
        timeout = httpx2.Timeout(PATIENCE if body else CONNECT, connect=CONNECT)
        try:
            response = httpx2.request("POST" if body else "GET", url, json=body, headers=headers, timeout=timeout)
        except httpx2.HTTPError as error:
            raise ThousandError(
                f"No engine answers at {self.url} ({error}); start it as docs/deploying.md says, or give another --engine-url."
            ) from None
        if response.status_code in (401, 403):
            raise ThousandError(
                f"The engine at {self.url} refuses the key ({response.status_code}); set THOUSAND_ENGINE_KEY to one it knows."
            )
        return response


def said(response: httpx2.Response) -> str:
    """What a server answered, in short: its status, and its words if it has any."""
    return f"{response.status_code} {response.text[:300]}".strip()


def first_question(template: Template) -> list[int]:
    """A prompt of two turns, to see how a server reads one."""
    words = [("user", "Hello, who are you?"), ("assistant", "A test."), ("user", "Good.\n\n- one\n- two")]
    return template.prompt([Message.model_validate({"role": role, "content": content}) for role, content in words])
