"""Training in several processes (accelerate launch, torchrun): who is first, and saying the same thing in all of them."""

import os
from collections.abc import Callable
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
    """The first process failed, and has said why."""


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
