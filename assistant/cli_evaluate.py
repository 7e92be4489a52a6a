"""`thousand evaluate ...`: one short function per verb."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from assistant.cli_ablate import evaluate_ablate
from assistant.cli_shift import evaluate_shift
from assistant.console import EngineOption, bar, merging, out, say
from assistant.files import write_text
from evaluation.sets import MAX_TOKENS, PromptSet, SetName

evaluate_app = typer.Typer(help="Judge what a model says.", no_args_is_help=True)

ReleasesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--release", help="A release by name; several times for several side by side. The current one by default."
    ),
]
BaseOption = Annotated[bool, typer.Option("--base", help="Also ask the plain base model, side by side.")]
UrialOption = Annotated[
    bool,
    typer.Option("--urial", help="Also ask the base model with three examples in its context (URIAL), side by side."),
]
EndpointsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        help="Also ask a chat model at an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1#MODEL, side by side. "
        "THOUSAND_ENDPOINT_KEY is its key.",
    ),
]
PageOption = Annotated[Path | None, typer.Option(help="Write every answer to this Markdown file.")]
PenaltyOption = Annotated[float | None, typer.Option(help="Instead of the release's own.")]
TemperatureOption = Annotated[float | None, typer.Option(help="Instead of the release's own.")]
MaxTokensOption = Annotated[int, typer.Option(min=1, help="The longest answer.")]
SeedOption = Annotated[int, typer.Option(min=0)]
CandidateArgument = Annotated[str, typer.Argument(help="A release.")]


def _settings(
    max_tokens: int, seed: int, temperature: float | None = None, repetition_penalty: float | None = None
) -> dict[str, Any]:
    """What is not as a release has it. Raises pydantic.ValidationError for a value outside its range."""
    from assistant.sampling import Sampling

    given = {"repetition_penalty": repetition_penalty, "temperature": temperature}
    settings = {name: value for name, value in given.items() if value is not None}
    settings |= {"max_tokens": max_tokens, "seed": seed}
    Sampling.model_validate(settings)
    return settings


def _asking(name: str, text: str, prompts_help: str, open_set: Callable[[Path | None], PromptSet]) -> None:
    """The command `name`, which asks systems the prompts of a set and prints their scores side by side."""

    @evaluate_app.command(name, help=text)
    def command(
        releases: ReleasesOption = None,
        base: BaseOption = False,
        urial: UrialOption = False,
        endpoints: EndpointsOption = None,
        prompts: Annotated[Path | None, typer.Option(help=prompts_help)] = None,
        page: PageOption = None,
        repetition_penalty: PenaltyOption = None,
        temperature: TemperatureOption = None,
        max_tokens: MaxTokensOption = MAX_TOKENS,
        seed: SeedOption = 0,
        engine: EngineOption = "auto",
    ) -> None:
        from assistant import release
        from evaluation import measured, side_by_side, tables
        from evaluation.systems import BASE, URIAL, record

        settings = _settings(max_tokens, seed, temperature, repetition_penalty)
        asked = open_set(prompts)
        chosen = list(dict.fromkeys(releases or [release.current(say)]))
        others = [*([BASE] if base else []), *([URIAL] if urial else []), *dict.fromkeys(endpoints or [])]
        judged = side_by_side.judge_systems(
            [*chosen, *others], asked, settings=settings, engine=engine, say=say, progress=merging, bar=bar
        )
        out.print(tables.table({one.system.name: one.scores for one in judged}))
        for line in side_by_side.to_know(asked, judged):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        if page:
            write_text(page, side_by_side.page(asked, judged))
        if prompts is None and engine == "auto" and settings == {"max_tokens": MAX_TOKENS, "seed": 0}:
            for one in judged:
                if one.system.name in chosen and "unanswered" not in one.scores:
                    record(one.system, asked.name, one.scores)
                    measured.keep(asked, one, [other for other in judged if other is not one])


def _dev(path: Path | None) -> PromptSet:
    from evaluation import dev

    return dev.prompt_set(path, say)


def _conversations(path: Path | None) -> PromptSet:
    from evaluation import conversations

    return conversations.prompt_set(path)


def _safety(path: Path | None) -> PromptSet:
    from evaluation import safety

    return safety.prompt_set(path)


def _constraints(path: Path | None) -> PromptSet:
    from evaluation import constraints

    return constraints.prompt_set(path)


_asking(
    "dev",
    "Answer the dev prompts and say what a program can tell of the answers.",
    "A .jsonl file of single-turn prompts; by default the dev set that comes along.",
    _dev,
)
_asking(
    "conversations",
    "Hold the scripted conversations and check each turn, with the model's own earlier answers in the context.",
    "A .jsonl file of scripted conversations; by default the 40 that come along.",
    _conversations,
)
_asking(
    "safety",
    "Answer the safety prompts and check the answers by rule: a floor, not a verdict.",
    "A .jsonl file of safety prompts; by default the 30 that come along.",
    _safety,
)
_asking(
    "constraints",
    "Answer prompts that ask for what a program can check, and say how many did as asked, strictly and loosely.",
    "A .jsonl file of single-turn prompts, of which those with checks are asked; by default the 100 that come along.",
    _constraints,
)


@evaluate_app.command("compare")
def evaluate_compare(
    candidate: CandidateArgument,
    current: Annotated[
        str | None,
        typer.Argument(
            help="What to compare it with: another release, base (its base model), urial (that with three examples in its "
            "context), or the address of an endpoint, as http://127.0.0.1:8000/v1#MODEL. The current release by default."
        ),
    ] = None,
    dev: Annotated[Path | None, typer.Option(help="Prompts in place of the dev set.")] = None,
    conversations: Annotated[Path | None, typer.Option(help="In place of the scripted conversations.")] = None,
    safety: Annotated[Path | None, typer.Option(help="In place of the safety prompts.")] = None,
    page: PageOption = None,
    max_tokens: MaxTokensOption = MAX_TOKENS,
    seed: SeedOption = 0,
    engine: EngineOption = "auto",
) -> None:
    """Ask a release and the current one the dev prompts, the scripted conversations and the safety prompts, and say how far apart they are."""
    from evaluation import compare_page
    from evaluation.compare import compare
    from evaluation.guard import guard

    _settings(max_tokens, seed)
    given: list[tuple[SetName, Path | None]] = [("dev", dev), ("conversations", conversations), ("safety", safety)]
    files = {name: path for name, path in given if path is not None}
    with bar("answers") as advance:
        compared = compare(
            candidate,
            current,
            say=say,
            progress=advance,
            files=files,
            max_tokens=max_tokens,
            seed=seed,
            engine=engine,
        )
    out.print(compare_page.table(compared))
    reasons = guard(compared)
    for line in [*compare_page.remarks(compared), compare_page.verdict(compared, reasons)]:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if page:
        write_text(page, compare_page.markdown(compared))
    if current is None and not files and (max_tokens, seed, engine) == (MAX_TOKENS, 0, "auto"):
        from train.retrain.verdict import renew

        renew(compared)


evaluate_app.command("ablate")(evaluate_ablate)
evaluate_app.command("shift")(evaluate_shift)
