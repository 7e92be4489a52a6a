"""Which place of llama.cpp an answer is made in: a conversation finds what was read of it, and answers stand side by side."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from assistant.base_model import Base
from assistant.dialogue import Message
from assistant.gguf_write import write_gguf
from assistant.sampling import Sampling
from assistant.template import Template
from serve.chat import Chat
from serve.engines.llama_cpp import LlamaCpp
from serve.engines.places import Place, Places


def enter(stack: ExitStack, places: Places, prompt: list[int]) -> Place:
    return stack.enter_context(places.place(prompt))


def ask(places: Places, prompt: list[int]) -> int | None:
    """An answer that ends at once."""
    with places.place(prompt) as place:
        return place.number


def numbered(number: int, length: int = 20) -> list[int]:
    """A prompt that begins as all do, and then is another than those of other numbers."""
    return [1, 2, 3, *[1000 + number] * length]


def test_a_short_question_does_not_take_the_place_of_a_long_conversation(tiny_llama: Path, tmp_path: Path) -> None:
    template = Template.load(tiny_llama)
    write_gguf(Base("tiny", "", None, tiny_llama), None, template, tmp_path / "tiny.gguf")
    engine = LlamaCpp(tmp_path / "tiny.gguf", context=512, slots=2, threads=1)
    chat = Chat(engine, template, name="tiny", sampling=Sampling(max_tokens=2))

    async def cached(*texts: str) -> tuple[int, int]:
        """How many tokens of a conversation of these messages were known, and how many it has."""
        messages = [Message(role=("user", "assistant")[at % 2], content=text) for at, text in enumerate(texts)]
        turn = chat.turn(messages, chat.sampling)
        async for _ in turn.text:
            pass
        return turn.usage.cached_tokens, turn.usage.prompt_tokens

    async def talk() -> None:
        try:
            long = "why is it so long " * 20
            _, before = await cached(long)
            for word in ("sea", "why", "old", "the"):
                await cached(f"{word}?")
            known, _ = await cached(long, "yes", "and?")
            assert known >= before - 1
        finally:
            await engine.close()

    asyncio.run(talk())


@pytest.mark.parametrize("before", [[], [0, 1, 2, 3, 4, 5, 6, 7], [3, 0, 6, 1, 7, 2, 5, 4]])
def test_answers_at_once_stand_side_by_side_and_let_lately_used_places_be(before: list[int]) -> None:
    places = Places(8)
    held = [ask(places, numbered(number)) for number in range(len(before))]
    for number in before:
        assert ask(places, numbered(number) + [5]) == held[number], "its conversation goes on in its place"
    with ExitStack() as stack:
        found = [enter(stack, places, numbered(number)).number for number in range(100, 102)]
    assert None not in found
    if not before or before == sorted(before):
        assert found[1] == found[0] + 1  # type: ignore[operator]
    late = {held[number] for number in before[-4:]}
    assert not late & set(found), "they may be asked again soon"


def test_the_second_of_two_answers_stands_beside_the_first_even_if_another_place_is_free_for_longer() -> None:
    places = Places(8)
    held = {number: ask(places, numbered(number)) for number in range(8)}
    for number in (0, 4, 1, 6, 3, 5, 2, 7):
        ask(places, numbered(number))
    assert held[0] == 0
    with ExitStack() as stack:
        assert [enter(stack, places, numbered(number)).number for number in (100, 101)] == [0, 1], "not 0 and 4"


def test_while_none_is_free_and_some_wait_llama_cpp_chooses() -> None:
    places = Places(2)
    with ExitStack() as stack:
        leaving = ExitStack()
        first = leaving.enter_context(places.place(numbered(0)))
        second = enter(stack, places, numbered(1))
        assert sorted([first.number or 0, second.number or 0]) == [0, 1]
        waiting = enter(stack, places, numbered(2))
        assert waiting.number is None
        leaving.close()
        assert ask(places, numbered(3)) is None, "it may not overtake who waits"
        assert first.number is not None
        places.found(waiting, first.number)
        assert ask(places, numbered(3)) is None, "both are taken"
    assert ask(places, numbered(1) + [9]) == second.number, "all are free again, and known"


def test_a_place_that_llama_cpp_has_free_while_a_slow_reader_reads_is_not_lost() -> None:
    places = Places(1)
    with places.place(numbered(0)) as slow:
        with places.place(numbered(1)) as other:
            assert other.number is None
            places.found(other, 0)
        assert slow.number == 0
        assert ask(places, numbered(2)) is None, "the slow reader's answer has not ended, as far as is known"
    assert ask(places, numbered(2)) == 0


def test_who_leaves_while_waiting_waits_no_more() -> None:
    places = Places(1)
    with places.place(numbered(0)), places.place(numbered(1)) as waiting:
        assert waiting.number is None
    assert ask(places, numbered(0)) == 0
