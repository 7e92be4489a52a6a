"""A real HTTP server that judges as a test wants it to."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, str | Iterable[str]]
"""HTTP status and body, whole or piece by piece."""


def completion(text: str, finish_reason: str = "stop") -> Reply:
    message = {"role": "assistant", "content": text}
    return 200, json.dumps({"choices": [{"message": message, "finish_reason": finish_reason}]})


@dataclass
class Seen:
    """The judge's address, and what it was asked."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    keys: set[str | None] = field(default_factory=set)

    def about(self, text: str) -> int:
        """How many requests held a text."""
        return sum(text in request["messages"][-1]["content"] for request in self.requests)


@contextmanager
def judging(reply: Callable[[str], Reply]) -> Iterator[Seen]:
    """A judge whose reply to a request is `reply(the user message)`."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.requests.append(request)
            seen.paths.add(self.path)
            seen.keys.add(self.headers["Authorization"])
            status, body = reply(request["messages"][-1]["content"])
            try:
                self.send_response(status)
                self.end_headers()
                for piece in [body] if isinstance(body, str) else body:
                    self.wfile.write(piece.encode())
            except OSError:
                return  # the client did not wait

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
