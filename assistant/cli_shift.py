"""`thousand evaluate shift`: what training changed in the base, token by token."""

from pathlib import Path
from typing import Annotated

import typer

from assistant.console import EngineOption, bar, out, say


def evaluate_shift(
    release: Annotated[str | None, typer.Argument(help="A release; the current one by default.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A .jsonl file of single-turn prompts; by default the dev set that comes along.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0, the default, always takes the likeliest token.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="1, the default, is none.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 256,
    engine: EngineOption = "auto",
) -> None:
    """Look up each token of a release's answers in its base: is it what the base would have said?"""
    from assistant.release import current
    from assistant.sampling import Sampling
    from evaluation.shift import measure_shift
    from evaluation.shift_page import kind_table, remarks, table, write_report

    settings = {
        "temperature": temperature,
        "repetition_penalty": repetition_penalty,
        "max_tokens": max_tokens,
        "seed": 0,
    }
    Sampling.model_validate(settings)
    with bar("shift") as advance:
        shift = measure_shift(
            current(say) if release is None else release,
            prompts,
            settings=settings,
            engine=engine,
            say=say,
            progress=advance,
        )
    place = write_report(shift)
    out.print(table(shift))
    out.print(kind_table(shift))
    for line in remarks(shift):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    out.print(f"Every answer coloured, and the curve: {place / 'shift.html'}", highlight=False, soft_wrap=True)
