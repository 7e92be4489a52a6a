"""What a server holds after many clients have left in the middle of things: places, threads, open files, memory.

    python bench/cancel.py [--clients 1000] [--together 16]

Starts `thousand serve` on the current release. Clients go away at once, while they wait for a place, while their prompt is
read, in the middle of an answer, and while the whole of it is awaited. Prints a table, and exits with 1 when something is
left of them. Run it while nothing else runs.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx
import psutil
from rich.console import Console
from rich.table import Table

WARM_UP = 100
"""Clients before the first look, after which caches and pools have their size."""
WORDS = ["why", "is", "the", "sky", "blue", "over", "a", "harbour", "and", "what", "do", "lamps", "say", "to", "ships"]
WAYS = ("at once", "waiting or prompt", "first words", "in the answer", "whole awaited")


@dataclass(frozen=True)
class Held:
    """What the server's process holds."""

    files: int
    threads: int
    megabytes: float

    @staticmethod
    def by(process: psutil.Process) -> "Held":
        return Held(process.num_fds(), process.num_threads(), process.memory_info().rss / 1e6)


@contextmanager
def serving() -> Iterator[tuple[psutil.Process, str, int]]:
    """The server's process, host and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
    command = [sys.executable, "-m", "assistant", "serve", "--no-page", "--port", str(port)]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        try:
            while process.poll() is None:
                with suppress(httpx.TransportError):
                    if httpx.get(f"http://{host}:{port}/ready").is_success:
                        break
                time.sleep(0.2)
            else:
                said.seek(0)
                sys.exit(said.read()[-2000:])
            yield psutil.Process(process.pid), host, port
        finally:
            process.terminate()
            process.wait(60)


async def leave(host: str, port: int, number: int, random: random.Random) -> None:
    """Ask, and go away in one of the ways."""
    way = WAYS[number % len(WAYS)]
    early = way in ("at once", "waiting or prompt")  # only these leave in the middle of a long prompt
    words = random.choices(WORDS, k=random.choice([5, 40, 800 if early else 20]))
    request = {
        "model": "thousand",
        "messages": [{"role": "user", "content": " ".join(words)}],
        "stream": way != "whole awaited",
        "max_tokens": 300,
    }
    body = json.dumps(request).encode()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    await writer.drain()
    pieces = {"waiting or prompt": 1, "first words": 2, "in the answer": 12}.get(way, 0)
    with suppress(asyncio.IncompleteReadError):  # an answer may be shorter
        for _ in range(pieces):
            await reader.readuntil(b"data: ")
    if way == "whole awaited":
        await asyncio.sleep(random.uniform(0, 0.5))
    writer.transport.abort()


async def leave_many(host: str, port: int, clients: int, together: int, seed: int) -> None:
    places, chance = asyncio.Semaphore(together), random.Random(seed)

    async def one(number: int) -> None:
        async with places:
            await leave(host, port, number, chance)

    await asyncio.gather(*[one(number) for number in range(clients)])


def turns_left(client: httpx.Client) -> float:
    """Answers that the server still waits for or writes."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("thousand_turns{"))


def settle(client: httpx.Client) -> float:
    """Seconds until every place is free."""
    began = time.perf_counter()
    while turns_left(client):
        if time.perf_counter() - began > 60:
            sys.exit("After a minute there are still answers under way that nobody waits for.")
        time.sleep(0.01)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument(
        "--together", type=int, default=16, help="clients at a time; four have a place, the others wait"
    )
    asked = parser.parse_args()
    table = Table(
        "clients that left", "seconds", "places free after (s)", "open files", "threads", "memory (MB)", box=None
    )
    with serving() as (process, host, port), httpx.Client(base_url=f"http://{host}:{port}", timeout=120) as client:
        looks = [Held.by(process)]
        table.add_row("0", "", "", str(looks[0].files), str(looks[0].threads), f"{looks[0].megabytes:.0f}")
        for seed, clients in enumerate((WARM_UP, asked.clients)):
            began = time.perf_counter()
            asyncio.run(leave_many(host, port, clients, asked.together, seed))
            seconds, free = time.perf_counter() - began, settle(client)
            looks.append(held := Held.by(process))
            row = [str(clients), f"{seconds:.1f}", f"{free:.2f}", str(held.files), str(held.threads)]
            table.add_row(*row, f"{held.megabytes:.0f}")
        question = {"model": "thousand", "messages": [{"role": "user", "content": "Are you there?"}], "max_tokens": 5}
        answered = client.post("/v1/chat/completions", json=question).is_success
    Console().print(table)
    before, after = looks[1:]
    grown = (
        after.files > before.files + 1
        or after.threads > before.threads + 1
        or after.megabytes > before.megabytes * 1.05
    )
    Console().print("Something is left of them." if grown or not answered else "Nothing is left of them.")
    return int(grown or not answered)


if __name__ == "__main__":
    sys.exit(main())
