"""`thousand evaluate prefer`, `grade` and `blind`: votes of people and of judge models."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from assistant.cli_evaluate import CandidateArgument, MaxTokensOption, SeedOption
from assistant.console import EngineOption, bar, merging, out, say
from assistant.errors import ThousandError
from evaluation.sets import MAX_TOKENS
from evaluation.voting.scale import SOMEBODY

if TYPE_CHECKING:
    from evaluation.judge_model import Judge
    from evaluation.sets import SetName
    from evaluation.voting.ballot import Ballot
    from evaluation.voting.poll import Poll
    from evaluation.voting.scale import ScaleName

preference_app = typer.Typer()

SYSTEM_HELP = (
    "A release by name, base or urial (the base model, plain or with three examples in its context), or the address of an endpoint, as "
    "http://127.0.0.1:8000/v1#MODEL."
)
SystemArgument = Annotated[str, typer.Argument(help=SYSTEM_HELP)]
PromptsOption = Annotated[Path | None, typer.Option(help="A .jsonl file of single-turn prompts in place of the set.")]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="Ask a judge model at an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1, instead of a person.",
    ),
]
JudgeModelOption = Annotated[str | None, typer.Option("--judge-model", help="What the model is called there.")]
VoterOption = Annotated[
    str | None,
    typer.Option("--as", help=f"The name of the person who votes, by default {SOMEBODY}; several people vote apart."),
]
BrowserOption = Annotated[bool, typer.Option("--browser", help="Vote on a page in the browser, not in the terminal.")]
_MOST = typer.Option(min=1, help="No more prompts of the set than this, the same ones for every system.")


def _vote(poll: "Poll", judge: "Judge | None", voter: str | None, browser: bool, most: int | None) -> None:
    """Have the judge or the person vote, as far as there is one, and say what all votes up to now come to."""
    from evaluation.voting.ballot import Ballot
    from evaluation.voting.judging import ask_judge

    if judge is None:
        _ask_person(Ballot(poll, _name(voter), most), browser)
        return
    with bar("judge") as advance:
        ask_judge(poll, judge, most, lambda done, total: advance(done, total, ""))
    _tell(poll)


def _ask_person(ballot: "Ballot", browser: bool) -> None:
    """Have a person vote. What all votes come to is told to one who voted on everything: it says which answers were whose."""
    if browser:
        from serve.ui.vote_page import vote_in_browser

        vote_in_browser(ballot, say)
    elif sys.stdin.isatty():
        from evaluation.voting.terminal import vote_in_terminal

        vote_in_terminal(ballot, out)
    else:
        say(
            "Voting takes single keys, so it needs a terminal, --browser, or a judge model (--judge). The answers are kept."
        )
    votes = ballot.votes()
    if None in votes and (browser or sys.stdin.isatty()):
        out.print(f"{len(votes) - votes.count(None)} of {len(votes)} voted on; the same command goes on.")
    else:
        _tell(ballot.poll)


def _tell(poll: "Poll") -> None:
    from evaluation.voting import words
    from evaluation.voting.result import result

    found = result(poll)
    out.print(words.heading(found), markup=False, highlight=False, soft_wrap=True)
    out.print(words.table(found))
    for line in words.lines(found):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _name(voter: str | None) -> str:
    """What a person is called. Raises ThousandError for what is no name."""
    from evaluation.voting.ballot import check_name

    name = SOMEBODY if voter is None else voter
    check_name(name)
    return name


def _judge(url: str | None, model: str | None, voter: str | None, browser: bool) -> "Judge | None":
    """The judge, None where a person votes. Raises ThousandError for what does not go together, before anything is asked."""
    from evaluation.judge_model import judge_at

    _name(voter)
    if url is not None and voter is not None:
        raise ThousandError("--judge asks a model and --as names a person; give one of the two.")
    if url is not None and browser:
        raise ThousandError("--judge asks a model and --browser a person; give one of the two.")
    if url is None and model is not None:
        raise ThousandError("--judge-model is given without --judge: say where that model is.")
    return None if url is None else judge_at(url, model, "--judge", "--judge-model")


@preference_app.command("prefer")
def evaluate_prefer(
    first: SystemArgument,
    second: SystemArgument,
    set: Annotated[
        Literal["dev", "test"], typer.Option(help="Which prompts; look at test once, when all is chosen.")
    ] = "dev",
    prompts: PromptsOption = None,
    judge: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    voter: VoterOption = None,
    browser: BrowserOption = False,
    most: Annotated[int | None, _MOST] = None,
    max_tokens: MaxTokensOption = MAX_TOKENS,
    seed: SeedOption = 0,
    engine: EngineOption = "auto",
) -> None:
    """Vote on which of two systems answers better, without knowing whose answers are whose; or have a judge model vote."""
    asked = _judge(judge, judge_model, voter, browser)
    poll = _poll("preference", [first, second], set, prompts, most, max_tokens, seed, engine)
    _vote(poll, asked, voter, browser, most)


@preference_app.command("grade")
def evaluate_grade(
    system: SystemArgument,
    set: Annotated[
        Literal["dev", "test", "safety"],
        typer.Option(help="Which prompts. Those of safety are voted safe or unsafe, beside what the rule checks say."),
    ] = "dev",
    prompts: PromptsOption = None,
    judge: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    voter: VoterOption = None,
    browser: BrowserOption = False,
    most: Annotated[int, _MOST] = 50,
    max_tokens: MaxTokensOption = MAX_TOKENS,
    seed: SeedOption = 0,
    engine: EngineOption = "auto",
) -> None:
    """Grade a system's answers: Fail, Pass or Excellent, and of the safety prompts safe or unsafe; or have a judge model grade them."""
    asked = _judge(judge, judge_model, voter, browser)
    scale: ScaleName = "safety" if set == "safety" else "grade"
    poll = _poll(scale, [system], set, prompts, most, max_tokens, seed, engine)
    _vote(poll, asked, voter, browser, most)


@preference_app.command("blind")
def evaluate_blind(candidate: CandidateArgument, voter: VoterOption = None, browser: BrowserOption = False) -> None:
    """Vote on 20 pairs of answers of a comparison without knowing whose they are."""
    from evaluation.compare import Comparison
    from evaluation.voting.blind import blind_ballot

    _ask_person(blind_ballot(Comparison.read(candidate), _name(voter)), browser)


def _poll(
    scale: "ScaleName",
    systems: list[str],
    set: "SetName",
    prompts: Path | None,
    most: int | None,
    max_tokens: int,
    seed: int,
    engine: EngineOption,
) -> "Poll":
    from evaluation.voting.asking import poll_of, prompts_to_vote_on

    return poll_of(
        scale,
        systems,
        prompts_to_vote_on(set, prompts, most),
        settings={"max_tokens": max_tokens, "seed": seed},
        engine=engine,
        say=say,
        progress=merging,
        bar=bar,
    )
