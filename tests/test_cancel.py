"""Clients that leave: nothing is left of them. And eight streams on four places: each is served, in its turn."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
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


async def leave(client: httpx.AsyncClient, number: int) -> None:
    """Ask, and go away: before an answer could begin, after its first words, or while the whole of it is awaited."""
    request = body(stream=number % 3 != 0, max_tokens=400, seed=number)
    request["messages"][0]["content"] = f"why is it so {number} " * (1 + number % 7)
    try:
        async with asyncio.timeout(0.02 * (1 + number % 4)):
            async with client.stream("POST", "/v1/chat/completions", json=request) as response:
                assert response.status_code in (200, 429)
                async for line in response.aiter_lines():
                    if "content" in line and number % 2:
                        return
    except (TimeoutError, httpx.TransportError):
        pass


def leave_many(address: str, count: int, together: int) -> None:
    async def run() -> None:
        places = asyncio.Semaphore(together)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=30) as client:

            async def one(number: int) -> None:
                async with places:
                    await leave(client, number)

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

        before = round_of(200)
        after = round_of(1000)
        assert after.files <= before.files + 1
        assert after.threads <= before.threads
        assert after.memory < before.memory + 20_000_000
        told.engine.end_after = 3
        assert told.ask().status_code == 200
        found = told.metrics()
        assert found['thousand_turns{state="waiting"}'] == found['thousand_turns{state="answering"}'] == 0
        assert found['thousand_turns_ended_total{key="",outcome="cancelled",via="api"}'] > 800


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


@asynccontextmanager
async def answering(client: httpx.AsyncClient, number: int) -> AsyncIterator[AsyncIterator[str]]:
    request = body(stream=True, max_tokens=60, seed=number)
    async with client.stream("POST", "/v1/chat/completions", json=request) as response:
        assert response.status_code == 200
        yield response.aiter_lines()


def test_eight_streams_on_four_places_are_all_served_and_first_come_first(real: Real) -> None:
    began: list[int] = []

    async def stream(client: httpx.AsyncClient, number: int) -> int:
        words = 0
        async with answering(client, number) as lines:
            async for line in lines:
                if '"content": "' in line and '"content": ""' not in line:
                    words += 1
                    if words == 1:
                        began.append(number)
        return words

    async def run() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=real.address, limits=limits, timeout=60) as client:
            tasks = []
            for number in range(8):
                tasks.append(asyncio.create_task(stream(client, number)))
                await asyncio.to_thread(
                    wait_until, lambda n=number: real.chat.answering == n + 1 - ended(tasks), "it waits"
                )
            return await asyncio.gather(*tasks)

    def ended(tasks: list[asyncio.Task[int]]) -> int:
        return sum(task.done() for task in tasks)

    words = asyncio.run(run())
    assert min(words) > 10, "each has been served"
    waited = [number for number in began if number >= SLOTS]
    assert waited == sorted(waited), "those who waited were served in the order in which they came"
