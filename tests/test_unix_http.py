"""Our little HTTP to the engine's socket, against a server that cuts its answers as it likes."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from serve.engines.unix_http import Status, lines, pieces

EVENTS = ['data: {"content": "line\u2028separator \u0085 and é"}', ": ping", 'data: {"content": "😀"}']
BODY = "".join(f"{event}\n\n" for event in EVENTS).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def cut(content: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.sample(range(1, len(content)), 6))
    return [content[start:end] for start, end in zip([0, *places], [*places, len(content)], strict=True)]


@asynccontextmanager
async def server(socket: Path, writes: list[bytes], gone: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Says `writes`, each on its own, then waits for the client to leave."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for write in writes:
            writer.write(write)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write_eof()
        await reader.read()
        gone()
        writer.close()

    async with await asyncio.start_unix_server(answer, socket):
        yield


async def read(socket: Path) -> list[str]:
    async with aclosing(lines(socket, "/completion", {})) as found:
        return [line.decode() async for line in found if line]


@pytest.mark.parametrize("seed", range(20))
def test_lines_come_whole_however_the_answer_is_cut(tmp_path: Path, seed: int) -> None:
    async def ask() -> list[str]:
        chance = random.Random(seed)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in cut(BODY, chance))
        async with server(tmp_path / "s", cut(HEAD + chunks + b"0\r\n\r\n", chance)):
            return await read(tmp_path / "s")

    assert asyncio.run(ask()) == EVENTS


def test_an_answer_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    async def ask() -> None:
        async with server(tmp_path / "s", [HEAD + b"100\r\ndata: "]):
            await read(tmp_path / "s")

    with pytest.raises(EOFError):
        asyncio.run(ask())


def test_a_refusal_is_told_with_its_reason(tmp_path: Path) -> None:
    async def ask() -> None:
        async with server(tmp_path / "s", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 8\r\n\r\ntoo long"]):
            await read(tmp_path / "s")

    with pytest.raises(Status, match="400: too long"):
        asyncio.run(ask())


def test_nobody_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(read(tmp_path / "s"))


def test_leaving_closes_the_connection(tmp_path: Path) -> None:
    async def leave() -> None:
        gone = asyncio.Event()
        async with server(tmp_path / "s", [HEAD + b"5\r\nhello\r\n"], gone.set), asyncio.timeout(10):
            async with aclosing(pieces(tmp_path / "s", "/completion", {})) as found:
                assert await anext(found) == b"hello"
            await gone.wait()

    asyncio.run(leave())
