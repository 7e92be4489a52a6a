"""Families of turn markers: how a dialogue is written for a tokenizer of each kind."""

from collections.abc import Container

from pydantic import BaseModel, ConfigDict

from assistant.dialogue import Role


class Family(BaseModel):
    """The turn markers of a family of models: `open` + role name + newline + content + `close` + newline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    open: str
    close: str
    roles: dict[Role, str]

    def header(self, role: Role) -> str:
        """What stands before the content of a role's turn, without the newline."""
        return self.open + self.roles[role]


FAMILIES = (
    Family(
        name="gemma",
        open="<start_of_turn>",
        close="<end_of_turn>",
        roles={"system": "system", "user": "user", "assistant": "model"},
    ),
    Family(
        name="chatml",
        open="<|im_start|>",
        close="<|im_end|>",
        roles={"system": "system", "user": "user", "assistant": "assistant"},
    ),
)

PLAIN = Family(
    name="plain",
    open="### ",
    close="",
    roles={"system": "System:", "user": "User:", "assistant": "Assistant:"},
)
"""For a tokenizer that has no turn tokens (GPT-2, OPT, Llama 1 and 2): roles are marked by ordinary text."""


def family_of(control: Container[str]) -> Family:
    """The first family whose two markers are both control tokens, else the plain one."""
    return next((family for family in FAMILIES if family.open in control and family.close in control), PLAIN)
