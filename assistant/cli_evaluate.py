"""`thousand evaluate ...`: one short function per verb."""

from pathlib import Path
from typing import Annotated

import typer

from assistant.console import EngineOption, ReleaseOption, bar, merging, out, say
from assistant.files import write_text

DEV_MAX_TOKENS = 256

evaluate_app = typer.Typer(help="Judge what a model says.", no_args_is_help=True)


@evaluate_app.command("dev")
def evaluate_dev(
    release: ReleaseOption = None,
    base: Annotated[bool, typer.Option(help="Also ask the plain base model, side by side.")] = False,
    urial: Annotated[
        bool, typer.Option(help="Also ask the base model with three examples in its context (URIAL), side by side.")
    ] = False,
    prompts: Annotated[
        Path | None, typer.Option(help="A .jsonl file of single-turn prompts; by default the dev set that comes along.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write every answer to this Markdown file.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Instead of the release's own.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Instead of the release's own.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = DEV_MAX_TOKENS,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    engine: EngineOption = "auto",
) -> None:
    """Answer the dev prompts and say what a program can tell of the answers."""
    from assistant.sampling import Sampling
    from evaluation import dev
    from evaluation.quality import Interval, qualities
    from serve.start import open_base_chat, open_chat

    asked = dev.read_prompts(prompts)
    changes = {"repetition_penalty": repetition_penalty, "temperature": temperature}
    given = {key: value for key, value in changes.items() if value is not None}
    Sampling.model_validate({**given, "max_tokens": max_tokens, "seed": seed})
    opened = open_chat(release, engine=engine, context=4096, say=say, progress=merging)
    sampling = Sampling.model_validate(
        {**opened.sampling.model_dump(), **given, "max_tokens": max_tokens, "seed": seed}
    )
    chats = {opened.name: opened}
    if base and opened.record:
        plain = open_base_chat(opened.record.base, engine=engine, context=4096, say=say)
        chats[f"base model {Path(plain.name).name}"] = plain
    if urial and opened.record:
        from evaluation.urial import open_in_context_chat

        shown = open_in_context_chat(opened.record.base, engine=engine, context=4096, say=say)
        chats[shown.name] = shown
    systems: dev.Systems = {}
    for name, system in chats.items():
        with bar(name) as advance:
            answers = dev.answers_of(system, asked, sampling, lambda done: advance(done, len(asked), ""))
        scores = dev.score(answers)
        if all(prompt.messages[-1].role == "assistant" for prompt in asked):
            found = qualities(answers, say)
            score = Interval.of([quality.score(with_grade=False) for quality in found])
            scores = {"score": score.model_dump(), **scores}
        systems[name] = (answers, scores)
    out.print(dev.table(systems))
    if page:
        write_text(page, dev.markdown(systems, sampling))
    as_by_default = not given and prompts is None and (max_tokens, seed, engine) == (DEV_MAX_TOKENS, 0, "auto")
    if as_by_default:
        dev.record(opened, systems[opened.name][1], sampling)
