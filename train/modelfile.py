"""An Ollama Modelfile for a release's GGUF file: the template in Go's language, the release's sampling, the notices."""

from collections.abc import Sequence

from assistant.release import Release
from assistant.template import Template


def go_template(template: Template) -> str:
    """The template in Go's text/template language, as Ollama fills it in for a chat; it ends where the answer begins.

    The BOS is not in it: Ollama puts it, where the GGUF file says that there is one.
    """
    family = template.family
    names = family.roles
    name = (
        f'{{{{ if eq .Role "system" }}}}{names["system"]}{{{{ else if eq .Role "user" }}}}{names["user"]}'
        f"{{{{ else }}}}{names['assistant']}{{{{ end }}}}"
    )
    turn = f"{family.open}{name}\n{{{{ .Content }}}}{family.close}\n"
    return f"{{{{ range .Messages }}}}{turn}{{{{ end }}}}{family.header('assistant')}\n"


def _quoted(text: str) -> str:
    # A Modelfile has no escape for its own quotation mark.
    return '"""' + text.replace('"""', "'''") + '"""'


def modelfile(record: Release, template: Template, notices: Sequence[str]) -> str:
    """The Modelfile beside `NAME.gguf`.

    top_k and min_p are off, which Ollama otherwise sets, and the penalty looks as far back as here; generation ends at
    the EOS of the GGUF file, and in a family with turn tokens at those too.
    """
    sampling = record.sampling
    parameters: list[tuple[str, object]] = [
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("top_k", 0),
        ("min_p", 0),
        ("repeat_penalty", sampling.repetition_penalty),
        ("repeat_last_n", 256),
        ("num_predict", sampling.max_tokens),
    ]
    stops = [template.tokenizer.id_to_token(template.stop_id), template.family.open, template.family.close]
    stops = [stop for stop in dict.fromkeys(stops) if stop in template.control]
    lines = [
        f"FROM ./{record.name}.gguf",
        f"TEMPLATE {_quoted(go_template(template))}",
        *(f"PARAMETER {name} {value}" for name, value in parameters),
        *(f'PARAMETER stop "{stop}"' for stop in stops),
        *(f"LICENSE {_quoted(notice)}" for notice in notices),
    ]
    return "\n".join(lines) + "\n"
