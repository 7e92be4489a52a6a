"""Who may review and retrain: whoever reaches the page of a machine without keys, else who has THOUSAND_API_KEY."""

from collections.abc import Callable

import gradio

from assistant.errors import ThousandError
from serve.access import Access
from serve.keys import OWN

NOT_YOURS = (
    "Only the operator of this server may do that: log in with the key that it was started with (THOUSAND_API_KEY). "
    "Other keys are for chatting and for feedback."
)


def may_operate(access: Access, request: gradio.Request) -> bool:
    """Whether whoever is there may; without keys nobody is asked."""
    return not access.keys.asked or request.username == OWN


def attempt(access: Access, request: gradio.Request, act: Callable[[], str]) -> None:
    """Do what the operator asks for and show what came of it, or why it did not; others are told that they may not."""
    if not may_operate(access, request):
        gradio.Warning(NOT_YOURS, title="Not done", duration=15)
        return
    try:
        gradio.Info(act(), title="Done")
    except ThousandError as error:
        gradio.Warning(str(error), title="Not done", duration=15)
