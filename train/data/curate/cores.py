"""Work on many pieces on all cores, with no more of them in memory than the cores need."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def cores(worth_it: bool) -> Iterator[Executor | None]:
    """A process for each core; none where there is too little to do or only one core."""
    if not worth_it or count() == 1:
        yield None
        return
    # Forked processes would share the threads' locks of libraries that are loaded already.
    with ProcessPoolExecutor(count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def in_order(
    pool: Executor | None, work: Callable[[Piece], Result], pieces: Iterable[Piece]
) -> Iterator[tuple[Piece, Result]]:
    """Each piece with what `work` makes of it, in the order of the pieces."""
    if pool is None:
        for piece in pieces:
            yield piece, work(piece)
        return
    waiting: deque[tuple[Piece, Future[Result]]] = deque()
    for piece in pieces:
        waiting.append((piece, pool.submit(work, piece)))
        if len(waiting) > 2 * count():
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()
