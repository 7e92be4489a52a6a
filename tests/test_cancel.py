"""Clients that leave: nothing is left of them. And eight streams on four places: each is served, in its turn."""

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from assistant.base_model import Base
from assistant.gguf_write import write_gguf
from assistant.sampling import Sampling
from assistant.template import Template
from serve.access import Access
from serve.api import build_app
from serve.chat import Chat
from serve.engines.llama_cpp import LlamaCpp
from serve.served import Served
from tests.server import serving_app, wait_until
from tests.told import ToldEngine, body, told_app

SLOTS = 4


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    files: int
    threads: int
    memory: int

    @staticmethod
    def now() -> "Held":
        gc.collect()
        process = psutil.Process()
        return Held(process.num_fds(), threading.active_count(), process.memory_info().rss)


async def leave(host: str, port: int, number: int) -> None:
    """Ask, and go away: at once, when the stream has begun, after its first words, or while the whole answer is awaited."""
    kind = number % 4
    request = body(stream=kind != 3, max_tokens=400, seed=number)
    request["messages"][0]["content"] = f"why is it so {number} " * (1 + number % 7)
    sent = json.dumps(request).encode()
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
    await writer.drain()
    if kind in (1, 2):
        for _ in range(3 * kind - 2):
            await reader.readuntil(b"data: ")
    elif kind == 3:
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.02)
    writer.transport.abort()


def leave_many(address: str, count: int, together: int) -> None:
    url = httpx.URL(address)

    async def run() -> None:
        places = asyncio.Semaphore(together)

        async def one(number: int) -> None:
            async with places:
                await leave(url.host, url.port or 80, number)

        await asyncio.gather(*[one(number) for number in range(count)])

    asyncio.run(run())


def test_truth_8_a_thousand_clients_that_leave_leave_nothing_behind() -> None:
    with told_app(ToldEngine(pause=0.002)) as told:
        address = str(told.client.base_url)

        def nobody_is_left() -> bool:
            return told.chat.answering == 0 and told.life.under_way == 0 and told.connections() <= 1

        def round_of(count: int) -> Held:
            leave_many(address, count, 16)
            wait_until(nobody_is_left, "all places are free again")
            return Held.now()

        before = round_of(100)
        after = round_of(1000)
        assert after.files <= before.files + 1
        assert after.threads <= before.threads
        assert after.memory < before.memory + 20_000_000
        told.engine.end_after = 3
        assert told.ask().status_code == 200
        found = told.metrics()
        assert found['thousand_turns{state="waiting"}'] == found['thousand_turns{state="answering"}'] == 0
        assert found['thousand_turns_ended_total{key="",outcome="cancelled",via="api"}'] >= 550, (
            "the half that saw the stream begin"
        )


@dataclass
class Real:
    """A server over llama.cpp with a tiny model."""

    chat: Chat
    address: str


@pytest.fixture(scope="module")
def real(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    template = Template.load(tiny_llama)
    gguf = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(Base("tiny", "", None, tiny_llama), None, template, gguf)
    engine = LlamaCpp(gguf, context=512, slots=SLOTS, threads=1)
    chat = Chat(engine, template, name="tiny", sampling=Sampling(temperature=2, top_p=1))
    with serving_app(build_app(Served(chat), access=Access(hosts=["127.0.0.1"]))) as address:
        yield Real(chat, address)


def test_truth_8_places_of_llama_cpp_are_free_after_clients_left(real: Real) -> None:
    def nobody_is_left() -> bool:
        return real.chat.answering == 0

    def round_of(count: int) -> Held:
        leave_many(real.address, count, 8)
        wait_until(nobody_is_left, "all places are free again")
        with httpx.Client(base_url=real.address, timeout=60) as client:  # as many at once as there are places
            threads = [
                threading.Thread(
                    target=client.post, args=("/v1/chat/completions",), kwargs={"json": body(max_tokens=2)}
                )
                for _ in range(SLOTS)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert real.chat.answering == 0
        return Held.now()

    before = round_of(60)
    after = round_of(200)
    assert after.files <= before.files + 1
    assert after.threads <= before.threads
    assert after.memory < before.memory + 30_000_000


def says_something(line: str) -> bool:
    if not line.startswith("data: {"):
        return False
    choices = json.loads(line.removeprefix("data: "))["choices"]
    return bool(choices and choices[0]["delta"].get("content"))


def test_eight_streams_on_four_places_starve_nobody(real: Real) -> None:
    begun = 0
    overtaken: list[int] = []

    async def talk(client: httpx.AsyncClient, number: int) -> None:
        nonlocal begun
        for turn in range(4):
            asked, words = begun, 0
            request = body(stream=True, max_tokens=20, seed=number + 10 * turn)
            async with client.stream("POST", "/v1/chat/completions", json=request) as response:
                async for line in response.aiter_lines():
                    if says_something(line):
                        words += 1
                        if words == 1:
                            overtaken.append(begun - asked)
                            begun += 1
            assert words > 3

    async def run() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=real.address, limits=limits, timeout=60) as client:
            await asyncio.gather(*[talk(client, number) for number in range(2 * SLOTS)])

    asyncio.run(run())
    assert len(overtaken) == 8 * SLOTS
    assert max(overtaken) < 2 * SLOTS + SLOTS, (
        "before an answer begin those that were asked for before it, and hardly others"
    )
