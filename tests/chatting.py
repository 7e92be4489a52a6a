"""A real HTTP server that chats as a test wants it to."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


def completion(text: str | None, reason: str = "stop") -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return Answer(
        200, json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
    )


@dataclass
class Chatting:
    """The server's address, what it says of its model, and what it was asked."""

    url: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)


@contextmanager
def chatting(
    says: Callable[[str], Answer], *, models: Sequence[str] = ("small",), key: str | None = None
) -> Iterator[Chatting]:
    """An endpoint that answers a conversation with `says(its last message)`; with a `key`, it answers nobody else."""
    it = Chatting()
    cards = [{"id": name, "object": "model", "created": 1, "owned_by": "test"} for name in models]
    it.card = cards[0]

    class Handler(BaseHTTPRequestHandler):
        def _send(self, answer: Answer) -> None:
            try:
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body.encode())
            except OSError:
                return  # the client did not wait

        def _allowed(self) -> bool:
            given = self.headers["Authorization"]
            it.keys.add(given)
            if key is None or given == f"Bearer {key}":
                return True
            self._send(Answer(401, "{}"))
            return False

        def do_GET(self) -> None:
            if self._allowed():
                self._send(Answer(200, json.dumps({"object": "list", "data": cards})))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self._allowed():
                it.requests.append(request)
                self._send(says(request["messages"][-1]["content"]))

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield it
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
