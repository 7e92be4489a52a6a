"""The `thousand` command: one short function per verb; the work is done elsewhere."""

import os
import sys
import warnings
from typing import Annotated

import typer
from pydantic import ValidationError

from assistant.cli_data import data_app
from assistant.cli_evaluate import evaluate_app
from assistant.cli_preference import preference_app
from assistant.cli_releases import releases_app
from assistant.cli_report import report_app
from assistant.cli_retrain import retrain_app
from assistant.cli_train import train_app
from assistant.console import (
    ContextOption,
    EngineModelOption,
    EngineUrlOption,
    ReleaseOption,
    ServingEngineOption,
    err,
    merging,
    out,
    say,
    warn,
)
from assistant.errors import ThousandError, validation_sentence

app = typer.Typer(
    help="A chat assistant from a thousand examples: fine-tune a base model, chat with it, serve it, retrain it on your dialogues.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(train_app, name="train")
app.add_typer(retrain_app, name="retrain")
app.add_typer(releases_app, name="releases")
app.add_typer(data_app, name="data")
evaluate_app.add_typer(preference_app)
app.add_typer(evaluate_app, name="evaluate")
evaluate_app.add_typer(report_app)


@app.command()
def chat(
    release: ReleaseOption = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 always takes the likeliest token.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="1 is none.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    engine: ServingEngineOption = "auto",
    engine_url: EngineUrlOption = None,
    engine_model: EngineModelOption = None,
    context: ContextOption = 4096,
) -> None:
    """Chat in the terminal."""
    from assistant.sampling import Sampling
    from serve.start import open_chat
    from serve.terminal import chat_in_terminal

    asked = {
        "temperature": temperature,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    given = {key: value for key, value in asked.items() if value is not None}
    Sampling.model_validate(given)
    opened = open_chat(
        release, engine=engine, context=context, say=say, progress=merging, url=engine_url, model=engine_model
    )
    chat_in_terminal(opened, Sampling.model_validate({**opened.sampling.model_dump(), **given}), system, out)


@app.command()
def serve(
    release: Annotated[
        str | None,
        typer.Option(
            help="A release by name, and that one for good; by default the current one, also when another becomes current "
            "while the server runs."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; any but this machine's own needs THOUSAND_API_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    page: Annotated[bool, typer.Option(help="Serve the chat page at / beside the endpoint.")] = True,
    engine: ServingEngineOption = "auto",
    engine_url: EngineUrlOption = None,
    engine_model: EngineModelOption = None,
    context: ContextOption = 4096,
    most_turns: Annotated[
        int, typer.Option(min=1, help="Answers under way and waiting; more are told to come back (429).")
    ] = 64,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="For each key, or without keys for each address; no bound by default.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="A page elsewhere that may call the endpoint, as https://example.org; several times."),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="What answers under way have left to finish when the server is stopped.")
    ] = 25,
) -> None:
    """Serve the chat page and the OpenAI-compatible endpoint."""
    from assistant.settings import settings
    from serve import start
    from serve.keys import Keys

    keys = Keys(settings().api_key, settings().api_keys_file)
    listener = start.listen(host, port, keys)
    access = start.access_to(listener, keys, origins=allow_origin or (), requests_per_minute=requests_per_minute)
    served, background = start.open_served(
        release,
        engine=engine,
        context=context,
        say=say,
        warn=warn,
        progress=merging,
        url=engine_url,
        model=engine_model,
        most_turns=most_turns,
    )
    shown = f"[{host}]" if ":" in host else host
    out.print(f"Serving {served.current.name} with {served.current.engine.name}; Ctrl-C stops", highlight=False)
    if page:
        out.print(f"Chat page  http://{shown}:{port}/", highlight=False)
    out.print(f"Endpoint   http://{shown}:{port}/v1/chat/completions", highlight=False)
    start.serve(served, listener, access, page=page, drain_seconds=drain_seconds, background=background)


def _quieten() -> None:
    """Libraries loaded later say nothing of their own, and call nobody."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft|torch")


def main() -> None:
    """Run the command; what a person can mend is one sentence on standard error and status 1."""
    from assistant.base_model import disk_error
    from assistant.settings import settings

    _quieten()
    try:
        app()
    except ThousandError as error:
        err.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    except ValidationError as error:
        err.print(
            f"Invalid value: {validation_sentence(error)}", style="red", markup=False, highlight=False, soft_wrap=True
        )
    except OSError as error:
        err.print(str(disk_error(error, settings().home)), style="red", markup=False, highlight=False, soft_wrap=True)
    else:
        return
    sys.exit(1)
