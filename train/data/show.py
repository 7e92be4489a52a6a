"""A dialogue's tokens as the model will see them, with the supervised ones coloured."""

from rich.text import Text

from assistant.dialogue import Dialogue
from assistant.template import Template


def _visible(template: Template, token_id: int) -> str:
    token = template.tokenizer.id_to_token(token_id) or f"[{token_id}]"
    return token.replace("▁", " ").replace("\n", "⏎\n")


def show(dialogue: Dialogue, template: Template) -> Text:
    """The dialogue's tokens between bars: green ones are predicted by the model and learnt from, dim ones are only read.

    After the last token of an answer comes, in red, the stop label: it is learnt, though it does not stand in the text.
    """
    rendered = template.render(dialogue.messages)
    text = Text()
    for position, token_id in enumerate(rendered.ids):
        supervised = position > 0 and rendered.labels[position - 1] == token_id
        text.append(_visible(template, token_id), style="green" if supervised else "dim")
        text.append("|", style="bright_black")
        label = rendered.labels[position]
        if label == template.stop_id:
            text.append(_visible(template, label), style="bold red")
            text.append("|", style="bright_black")
    share = rendered.supervised / len(rendered.ids)
    text.append(
        f"\n{len(rendered.ids)} tokens, {rendered.supervised} supervised ({share:.0%}); stop label {template.stop_id}\n"
    )
    return text
