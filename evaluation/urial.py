"""The base model with examples in its context, and no training: the baseline that training has to beat.

After URIAL (Lin et al. 2023, arXiv 2312.01552, section 3.2): a preamble that says what an assistant is, and three
fixed examples, one of them a partial refusal, in plain text. The preamble and the examples are this project's own; the markers
are the plain family's, and an answer ends where the base begins the next user's turn.
"""

from collections.abc import Sequence
from functools import cache

from assistant import base_model
from assistant.base_model import Say
from assistant.dialogue import Message, find, read_dialogues
from assistant.families import PLAIN
from assistant.sampling import Sampling
from assistant.settings import bundled
from assistant.template import Template
from serve.chat import Chat, Turn
from serve.start import EngineName, start_engine

EXAMPLES = ("stem-0091", "general-0167", "assistant-0028")
"""A question of fact, a request for advice, and one that is answered in part only; all of the training data."""

PREAMBLE = (
    "Below is a conversation between a user and an assistant. The assistant answers what is asked, clearly and in "
    "full sentences, says so when it does not know, and declines to help with what would harm somebody."
)


@cache
def in_context() -> tuple[Message, ...]:
    """What stands before each prompt."""
    dialogues = read_dialogues([bundled("dialogues")])
    shown = [message for name in EXAMPLES for message in find(dialogues, name).messages]
    return (Message(role="system", content=PREAMBLE), *shown)


def with_examples(messages: Sequence[Message]) -> list[Message]:
    """A conversation with the preamble and the examples before it; a system message joins the preamble."""
    preamble, *examples = in_context()
    if messages[0].role == "system":
        asked, *messages = messages
        preamble = preamble.model_copy(update={"content": f"{preamble.content}\n\n{asked.content}"})
    return [preamble, *examples, *messages]


class InContextChat(Chat):
    """A base model that is shown examples before every conversation."""

    def turn(self, messages: Sequence[Message], sampling: Sampling) -> Turn:
        """Begin an answer; it ends where the base goes on with a turn of the user's."""
        stop = (PLAIN.header("user"), *sampling.stop)
        return super().turn(with_examples(messages), sampling.model_copy(update={"stop": stop}))


def open_in_context_chat(spec: str, *, engine: EngineName, context: int, say: Say) -> Chat:
    """The base model that `spec` names, with examples in its context. Raises ThousandError when it cannot be had."""
    base = base_model.resolve(spec, say)
    template = Template.load(base.folder, family=PLAIN)
    started = start_engine(engine, base, None, None, template, context, say, lambda done, total: None)
    return InContextChat(started, template, name=f"{base.name}, 3 examples in context", sampling=Sampling())
