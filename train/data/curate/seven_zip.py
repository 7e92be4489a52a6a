"""Unpacking one file of a `.7z` archive into a pipe; py7zr hands out what it has unpacked piece by piece."""

import os
from pathlib import Path

import py7zr
from py7zr.io import Py7zIO, WriterFactory


class _Pipe(Py7zIO, WriterFactory):  # type: ignore[misc]
    """Takes what is unpacked, and gives it to whoever reads the pipe."""

    def __init__(self, descriptor: int) -> None:
        self.file = os.fdopen(descriptor, "wb", buffering=0)
        self.written = 0

    def create(self, filename: str) -> Py7zIO:
        return self

    def write(self, s: bytes | bytearray) -> int:
        rest = memoryview(s)
        while rest:
            rest = rest[self.file.write(rest) :]
        self.written += len(s)
        return len(s)

    def read(self, size: int | None = None) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.written

    def flush(self) -> None:
        return None

    def size(self) -> int:
        return self.written


def unpack(path: Path, member: str, descriptor: int, failures: list[Exception]) -> None:
    """Write a file of an archive to `descriptor` and close it; what went wrong is added to `failures`."""
    pipe = _Pipe(descriptor)
    try:
        with py7zr.SevenZipFile(path) as archive:
            archive.extract(targets=[member], factory=pipe)
    except BrokenPipeError:
        return  # Nobody reads any longer.
    except Exception as error:  # It runs in a thread: whatever it is, the reader must know.
        failures.append(error)
    finally:
        pipe.file.close()
