"""Training in several processes (accelerate launch, torchrun): who is first, and saying the same thing in all of them."""

import gc
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch

from assistant.errors import ThousandError

T = TypeVar("T")


def count() -> int:
    """How many processes train together, as their launcher says; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is; the first is 0, and it alone speaks and writes."""
    return int(os.environ.get("RANK", "0"))


class Elsewhere(ThousandError):
    """Another process failed, and has said why."""


@contextmanager
def together() -> Iterator[None]:
    """What the processes do together, from the first time they meet; they part at its end, and after an error too.

    Whoever keeps the connection until the interpreter ends can crash there. Raises Elsewhere when another process has
    ended, which cuts the connection to it.
    """
    if count() == 1:
        yield
        return
    # Loaded once there is a connection, this module would keep it as a default argument of its functions.
    import torch.distributed.nn.functional

    try:
        yield
        wait()
    except BaseException as error:
        _let_go(error)
        if isinstance(error, torch.distributed.DistError) or (
            isinstance(error, RuntimeError) and "gloo/" in str(error)
        ):
            raise Elsewhere(
                "Another process has ended; go on from the last checkpoint with: thousand train --resume RUN"
            ) from None
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        gc.collect()  # a trainer is part of cycles, and would keep the connection


def _let_go(error: BaseException | None) -> None:
    """What the failed functions held is let go of: the trainer among it, and with it the connection."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them. Raises Elsewhere in the others when it fails there."""
    if count() == 1:
        return make()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not torch.cuda.is_available())
    said: list[object] = [None, False]
    if rank() == 0:
        try:
            said = [make(), True]
        except BaseException:
            broadcast_object_list(said)
            raise
    broadcast_object_list(said)
    if not said[1]:
        raise Elsewhere("The first process failed.")
    return cast(T, said[0])


def any_of(flag: bool) -> bool:
    """Whether the flag is up in any process."""
    if count() == 1:
        return flag
    from accelerate.utils import gather_object

    return any(gather_object([flag]))


def wait() -> None:
    """Until every process is here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
