"""What came of a poll. A person's vote is called human preference, and nothing else is."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Literal

from assistant.errors import ThousandError, read_each
from evaluation.intervals import Interval
from evaluation.judge_model import LONGEST_REPLY, JudgeName
from evaluation.sets import SetName
from evaluation.systems import Asked
from evaluation.voting.judging import name_of_request, orders, read_vote
from evaluation.voting.poll import SHEET, Poll, Reply, polls
from evaluation.voting.scale import NEITHER, Scale, ScaleName, meaning
from evaluation.voting.sheet import Item, Model
from evaluation.voting.tally import VALUES, agreement, ahead, at_equal_length, sign_test

Kind = Literal["person", "people", "model", "rules"]
RULES = "rule checks"


class Position(Model):
    """What the order did to a judge model that was asked each pair in both."""

    pairs: int
    """With a vote in both orders."""
    always_a: int
    """A was voted for in both orders: the place decided, not the answer. Counted as a tie."""
    always_b: int
    otherwise_apart: int
    """In one order a winner and in the other none. Counted as a tie."""


class Tally(Model):
    """The votes of one voter, or of all people."""

    voter: str
    kind: Kind
    """`people` is all persons together, where there are several."""
    judge: JudgeName | None = None
    """Of a model."""
    prompts: int
    """That have a vote."""
    shares: dict[str, Interval]
    """The share of each vote with its 95 % interval after Wilson. Of a preference they are `first`, `neither`, `second`."""
    rate: Interval | None = None
    """Of a preference: the first system's share, a tie being half a vote for each."""
    rate_at_equal_length: Interval | None = None
    """The same if answers were equally long (`tally.at_equal_length`)."""
    p: float | None = None
    """Of the sign test; None for a grade, or when no prompt has a winner."""
    ahead: Literal["first", "second"] | None = None
    """Whose answer won on more prompts, which is what the sign test looks at."""
    position: Position | None = None
    """Of a model's preference."""
    no_vote: dict[str, str]
    """Prompts on which a model was asked and gave no vote, and why. They are in no share."""
    changed: tuple[str, ...]
    """Prompts with a vote on an answer that is another one, or gone. It does not count."""


class Agreement(Model):
    """Tie-discounted accuracy of two voters."""

    one: str
    other: str
    prompts: int
    """On which both voted."""
    accuracy: Interval


class Result(Model):
    """One poll: what was voted on, each voter's tally, and how far voters agree."""

    scale: ScaleName
    set: SetName
    file: str
    """The name of its file."""
    systems: tuple[Asked, ...]
    """Two of a preference, of which `first` and `second` speak; else one."""
    prompts: int
    words: tuple[float, ...]
    """The mean length of each system's answers."""
    same: tuple[str, ...]
    """Prompts that both answered in the same words, which nobody votes on."""
    empty: dict[str, tuple[str, ...]]
    """The prompts to which a system said nothing. That was shown as nothing, and voted on."""
    unanswered: dict[str, str]
    left_out: tuple[str, ...]
    tallies: tuple[Tally, ...]
    """Each person's, all people's where there are several, each model's, and the rule checks' where there are some. None at all:
    not judged."""
    agreements: tuple[Agreement, ...]


def read_preferences(home: Path, damaged: Callable[[ThousandError], None] | None = None) -> list[Result]:
    """What came of every poll in a THOUSAND_HOME: preferences, grades and safety votes, told apart by `scale`, sorted by folder.

    It is worked out from `sheet.json`, `votes.jsonl` and `replies.jsonl` in each folder of `evaluations/polls`, so it holds each vote up to
    now, whether it was given on a page, in a terminal or by a model. A damaged sheet is told to `damaged` and left out; where that is not
    given it is raised as ThousandError.
    """
    return read_each(sorted(polls(home).glob(f"*/{SHEET}")), lambda file: result(Poll(file.parent)), damaged)


def result(poll: Poll) -> Result:
    """What the votes of a poll say."""
    sheet = poll.sheet
    people = _people(poll)
    found = [*people.values()]
    if len(people) > 1:
        found.append(_together(people))
    judges = dict.fromkeys(reply.judge for reply in poll.replies())
    found += [_model(poll, judge) for judge in judges]
    if rules := {item.key: item.by_rule for item in sheet.items if item.by_rule is not None}:
        found.append(_Voter(RULES, "rules", {key: [vote] for key, vote in rules.items()}))
    return Result(
        scale=sheet.scale,
        set=sheet.set,
        file=sheet.file,
        systems=sheet.systems,
        prompts=len(sheet.items),
        words=tuple(
            round(fmean(len(item.answers[place].split()) for item in sheet.items), 1)
            for place in range(len(sheet.systems))
        ),
        same=sheet.same,
        empty={
            system.name: nothing
            for place, system in enumerate(sheet.systems)
            if (nothing := tuple(item.prompt for item in sheet.items if not item.answers[place].strip()))
        },
        unanswered=sheet.unanswered,
        left_out=sheet.left_out,
        tallies=tuple(_tally(poll.scale, sheet.items, voter) for voter in found),
        agreements=tuple(_agreements(found)),
    )


class _Voter:
    """One voter's votes, by the key of the item; of all people several on one item."""

    def __init__(self, name: str, kind: Kind, votes: Mapping[str, Sequence[str]]) -> None:
        self.name, self.kind, self.votes = name, kind, votes
        self.judge: JudgeName | None = None
        self.position: Position | None = None
        self.no_vote: dict[str, str] = {}
        self.changed: tuple[str, ...] = ()


def _people(poll: Poll) -> dict[str, _Voter]:
    there = {item.key for item in poll.sheet.items}
    votes: dict[str, dict[str, str]] = defaultdict(dict)
    prompts: dict[str, dict[str, str]] = defaultdict(dict)
    for vote in poll.votes():
        votes[vote.voter].pop(vote.key, None)
        if vote.vote is not None:
            votes[vote.voter][vote.key] = meaning(vote.vote, vote.swapped)
            prompts[vote.voter][vote.key] = vote.prompt
    found = {}
    for name, cast in votes.items():
        voter = _Voter(name, "person", {key: [vote] for key, vote in cast.items() if key in there})
        voter.changed = tuple(dict.fromkeys(prompts[name][key] for key in cast if key not in there))
        if cast:
            found[name] = voter
    return found


def _together(people: Mapping[str, _Voter]) -> _Voter:
    votes: dict[str, list[str]] = defaultdict(list)
    for voter in people.values():
        for key, cast in voter.votes.items():
            votes[key] += cast
    return _Voter("all people", "people", votes)


def _model(poll: Poll, judge: JudgeName) -> _Voter:
    replies: dict[str, Reply] = {}
    for reply in poll.replies():
        if reply.judge == judge:
            replies[reply.request] = reply
    scale, votes, words, no_vote = poll.scale, {}, [], {}
    current: set[str] = set()
    for item in poll.sheet.items:
        requests = [name_of_request(judge, scale, item, swapped) for swapped in orders(item)]
        current.update(requests)
        if not all(request in replies for request in requests):
            if any(request in replies for request in requests):
                no_vote[item.prompt] = "it was not asked in both orders"
            continue
        said = [_said(scale, replies[request]) for request in requests]
        if problem := next((problem for _, problem in said if problem), None):
            no_vote[item.prompt] = problem
            continue
        cast = [word for word, _ in said]
        words.append(cast)
        meant = {meaning(word, swapped) for word, swapped in zip(cast, orders(item), strict=True)}
        votes[item.key] = [meant.pop() if len(meant) == 1 else NEITHER]
    voter = _Voter(str(judge), "model", votes)
    voter.judge, voter.no_vote = judge, no_vote
    voter.position = _position(words) if scale.name == "preference" else None
    voter.changed = tuple(dict.fromkeys(reply.prompt for name, reply in replies.items() if name not in current))
    return voter


def _said(scale: Scale, reply: Reply) -> tuple[str, str | None]:
    """The vote in a reply, or why there is none."""
    if reply.reply is None:
        return "", reply.failure
    vote = read_vote(scale, reply.reply)
    if vote is not None:
        return vote, None
    if reply.cut:
        return "", f"its reply was cut at {LONGEST_REPLY} tokens, before a vote"
    last = (reply.reply.strip().splitlines() or ["nothing"])[-1]
    return "", f"no vote on the scale ({', '.join(scale.words)}): {last[:80]!r}"


def _position(words: Sequence[Sequence[str]]) -> Position:
    apart = sum(NEITHER in cast and cast[0] != cast[1] for cast in words)
    always = {side: sum(cast == [side, side] for cast in words) for side in ("A", "B")}
    return Position(pairs=len(words), always_a=always["A"], always_b=always["B"], otherwise_apart=apart)


def _tally(scale: Scale, items: Sequence[Item], voter: _Voter) -> Tally:
    voted = [(item, voter.votes[item.key]) for item in items if voter.votes.get(item.key)]
    pair = scale.name == "preference"
    words = tuple(VALUES) if pair else scale.words
    values = [fmean(VALUES[vote] for vote in cast) for _, cast in voted] if pair else []
    longer = [len(item.answers[0]) - len(item.answers[1]) for item, _ in voted] if pair else []
    return Tally(
        voter=voter.name,
        kind=voter.kind,
        judge=voter.judge,
        prompts=len(voted),
        shares={word: Interval.of_share([cast.count(word) / len(cast) for _, cast in voted]) for word in words}
        if voted
        else {},
        rate=Interval.of_share(values) if values else None,
        rate_at_equal_length=at_equal_length(values, longer) if values else None,
        p=sign_test(values),
        ahead=ahead(values),
        position=voter.position,
        no_vote=voter.no_vote,
        changed=voter.changed,
    )


def _agreements(voters: Sequence[_Voter]) -> list[Agreement]:
    single = [
        (voter.name, {key: cast[0] for key, cast in voter.votes.items()}) for voter in voters if voter.kind != "people"
    ]
    found = []
    for (one, first), (other, second) in combinations(single, 2):
        accuracy = agreement(first, second)
        if accuracy is not None:
            found.append(Agreement(one=one, other=other, prompts=len(first.keys() & second.keys()), accuracy=accuracy))
    return found
