"""HTTP to a server on a Unix socket, as little of it as llama.cpp's server speaks.

An answer comes token by token, on the cores that compute the next one. httpx takes 0.2 ms of a core for each piece, 2 %
of the time that a small model needs for a token; this takes less than 0.08 (docs/log.md).
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any


class Status(Exception):
    """The server answered with another status than 200."""


async def pieces(socket: Path, path: str, body: dict[str, Any] | None = None) -> AsyncGenerator[bytes, None]:
    """The body of an answer, piece by piece as the server sends it; closing the generator closes the connection.

    GET without a body, POST with one as JSON. Raises Status, OSError when the server cannot be reached, and EOFError when it
    breaks off.
    """
    content = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n".encode()
            + content
        )
        status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
        if "chunked" not in headers.get("transfer-encoding", ""):
            whole = await reader.readexactly(int(headers["content-length"]))
            if status != 200:
                raise Status(f"{status}: {whole.decode(errors='replace')[:500]}")
            yield whole
            return
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
    finally:
        writer.close()


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case."""
    first, *lines = head.decode("latin-1").splitlines()
    named = (line.partition(":") for line in lines if line)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in named}


async def lines(socket: Path, path: str, body: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    """The lines of an answer to a POST, each as soon as it is whole. Raises as `pieces` does."""
    rest = b""
    async with aclosing(pieces(socket, path, body)) as blocks:
        async for block in blocks:
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                yield line
