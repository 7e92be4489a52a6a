"""The HTTP layer over an engine that is told what to do, in this process or in one of its own.

    python -m tests.told '{"until": "/tmp/file", "drain_seconds": 5}'

serves on a port of its own until it is stopped; the first line it prints is the address.
"""

import asyncio
import json
import sys
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import psutil

from assistant.sampling import Sampling
from assistant.template import Template
from serve.access import Access
from serve.api import build_app
from serve.chat import Chat
from serve.connection import Connection
from serve.engines.base import PLAIN, Delta, EngineError, Finish, Offer, Wanted
from serve.keys import Keys
from serve.life import Life
from serve.metrics import Meter
from serve.served import Served
from serve.start import access_to, listen, serve
from serve.store import Store
from tests.server import serving_app
from tests.tiny import make_tokenizer

KEY = "a-secret-of-the-tests"


@dataclass
class ToldEngine:
    """Says "word " for ever, or ends or fails after as many words as told; counts who began and who was closed."""

    name: str = "told"
    context: int = 512
    reads_text: bool = False
    offers: frozenset[Offer] = frozenset()
    word: str = "word "
    pause: float = 0.005
    end_after: int | None = None
    fail_after: int | None = None
    failure: Exception = field(default_factory=lambda: EngineError("it broke"))
    until: Path | None = None
    """A file whose being there ends all answers."""
    began: int = 0
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    prompts: list[list[int]] = field(default_factory=list)

    async def stream(
        self, prompt: Sequence[int], sampling: Sampling, wanted: Wanted = PLAIN
    ) -> AsyncIterator[Delta | Finish]:
        self.began += 1
        self.prompts.append(list(prompt))
        try:
            for count in range(10**9):
                if count == self.fail_after:
                    raise self.failure
                if count == self.end_after or (self.until is not None and self.until.exists()):
                    yield Finish("stop", cached_tokens=3)
                    return
                yield Delta(self.word, 1)
                await asyncio.sleep(self.pause)
        finally:
            self.closed.release()

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        return None


@cache
def told_template() -> Template:
    return Template(make_tokenizer(), bos="<bos>", eos="<eos>")


def told_chat(engine: ToldEngine, **settings: Any) -> Chat:
    return Chat(engine, told_template(), name="told", sampling=Sampling(), **settings)


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "thousand", "messages": [{"role": "user", "content": "why"}], **fields}


@dataclass
class Told:
    """A server in this process."""

    engine: ToldEngine
    chat: Chat
    client: httpx.Client
    life: Life

    def metrics(self) -> defaultdict[str, float]:
        """What /metrics says, by name and labels."""
        lines = [line.rpartition(" ") for line in self.client.get("/metrics").text.splitlines()]
        return defaultdict(float, {name: float(value) for name, _, value in lines if not name.startswith("#")})

    def connections(self) -> int:
        """How many there are to this server."""
        port = self.client.base_url.port
        return sum(
            connection.status == "ESTABLISHED" and connection.laddr.port == port
            for connection in psutil.Process().net_connections("tcp")
        )

    def ask(self, **fields: Any) -> httpx.Response:
        return self.client.post("/v1/chat/completions", json=body(**fields))


@contextmanager
def told_app(
    engine: ToldEngine | None = None,
    *,
    page: bool = False,
    keys: Keys | None = None,
    connection: type[Connection] = Connection,
    most_turns: int = 64,
    port: int = 0,
    **access: Any,
) -> Iterator[Told]:
    """A server in this process over an engine that is told what to do."""
    engine = engine or ToldEngine()
    chat = told_chat(engine, most_turns=most_turns)
    served, life = Served(chat), Life()
    entry, meter = Access(hosts=["127.0.0.1", "localhost", "::1"], keys=keys, **access), Meter(served)
    store = Store()
    app = build_app(served, access=entry, store=store, meter=meter, life=life)
    if page:
        from serve.ui.asking import House
        from serve.ui.pages import mount_pages

        app = mount_pages(app, House(served, entry, meter, life, store))
    with (
        serving_app(app, port, life=life, connection=connection) as address,
        httpx.Client(base_url=address, timeout=10) as client,
    ):
        yield Told(engine, chat, client, life)


def main() -> None:
    told = json.loads(sys.argv[1])
    until = Path(told.pop("until")) if "until" in told else None
    listener = listen("127.0.0.1", told.pop("port", 0), Keys())
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    chat = told_chat(ToldEngine(until=until, **told.pop("engine", {})))
    serve(Served(chat), listener, access_to(listener, Keys()), page=told.pop("page", False), **told)


if __name__ == "__main__":
    main()
