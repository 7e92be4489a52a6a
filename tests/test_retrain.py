"""`thousand retrain`: what is new, training, comparing, promoting; with a tiny base and ten dialogues."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from assistant import release
from assistant.dialogue import read_dialogues
from assistant.errors import ThousandError
from assistant.jsonl import write_records
from assistant.lineage import fingerprint, read_lineage, releases_trained_on
from tests.conftest import Command
from tests.retraining import keep, kept, short_prompts
from tests.server import wait_until
from train.curves import read_log
from train.retrain import background, state


def test_nothing_new_is_said_and_nothing_begun(thousand: Command, own: Path) -> None:
    result = thousand("retrain", "--yes")
    assert result.code == 1
    assert "Since first: 0 added, 0 changed, 0 removed, 10 as before" in result.out
    assert "Nothing is new since first" in result.err
    assert "There was no retraining yet" in thousand("retrain", "status").out
    assert "No retraining is under way" in thousand("retrain", "cancel").err


def test_what_is_new_and_the_time_are_said_before_anybody_is_asked(thousand: Command, own: Path, trained: Path) -> None:
    keep(own, [kept(1), kept(2)])
    mine = read_dialogues([trained / "mine.jsonl"])
    edited = kept(7, "another answer").model_copy(update={"id": mine[3].id})
    write_records(own / "edited.jsonl", [edited, *mine[4:]])
    result = thousand("retrain", "--data", own / "edited.jsonl")
    assert "Since first: 2 added, 1 changed, 3 removed, 6 as before" in result.out
    assert f" + {kept(1).id}: question 1 → so it is." in result.out
    assert " ~ mine-3: question 7 → another answer" in result.out
    assert [line for line in result.out.splitlines() if line.startswith(" - ")] == [
        " - mine-0",
        " - mine-1",
        " - mine-2",
    ]
    assert result.code == 1
    assert "There is no terminal to ask on, so nothing was begun; agree with --yes." in result.err


def test_from_a_kept_dialogue_to_the_release_that_chats(thousand: Command, own: Path, trained: Path) -> None:
    keep(own, [kept(1), kept(2)])
    result = thousand("retrain", "--yes", "--name", "second", *short_prompts(trained))
    assert result.code == 0, result.err
    assert "of training:" in result.out
    assert "(measured here for first)" in result.out
    known = read_lineage("second")
    assert known is not None
    assert len(known) == 12
    assert releases_trained_on(kept(2).id or "") == ["second"]
    assert [record.name for record in release.whole_ones() if record.guard] == ["second"]
    guard = release.read(release.path("second")).guard
    assert guard is not None
    assert guard.compared is not None
    assert guard.against == "first"
    assert not (own / "retrain" / "second").exists(), "what people said is kept in one place"
    assert re.search(r"dev +score|score", result.out)
    verdict = (
        f"Keep first: {guard.reasons[0]}" if guard.reasons else "Promote second: nothing that is measured is worse"
    )
    assert verdict in result.out
    assert "second is made and compared with first." in thousand("retrain", "status").out
    override = ("--override", "for the test") if guard.reasons else ()
    assert thousand("releases", "promote", "second", *override).code == 0
    assert "Nothing is new since second" in thousand("retrain", "--yes").err
    keep(own, [kept(2, "edited")])
    told = thousand("retrain").out
    assert "Since second: 0 added, 1 changed, 1 removed, 10 as before" in told, "mine.jsonl is learnt from again"


STEPS = 24


def test_one_in_the_background_is_cancelled_and_gone_on_with(thousand: Command, own: Path, trained: Path) -> None:
    keep(own, [kept(1), kept(2)])
    numbers = ["--set", f"epochs={STEPS / 12:.0f}", "--set", "dialogues_per_step=1"]
    background.start("--name", "second", *numbers, *short_prompts(trained))
    assert state.ask_to_stop().run == "second"
    assert "second is training; it has been asked to save and stop" in thousand("retrain", "status").out
    with pytest.raises(ThousandError, match="under way already"):
        background.start()
    wait_until(lambda: not state.standing().running, "it stops")
    assert "the checkpoint is saved. Go on with: thousand retrain" in thousand("retrain", "status").out
    log = own / "runs" / "second" / "log.jsonl"
    assert 0 < len(read_log(log)) < STEPS
    assert "second was interrupted" in thousand("retrain", "--yes", "--name", "third").err
    keep(own, [kept(1), kept(2), kept(3)])
    result = thousand("retrain")
    assert result.code == 0, result.err
    assert len(read_log(log)) == STEPS
    assert len(read_lineage("second") or ()) == 12, "what was kept meanwhile is for the next one"


def test_one_in_the_background_that_comes_to_nothing_says_why(own: Path) -> None:
    with pytest.raises(ThousandError, match="Nothing is new since first"):
        background.start()


def stopped_before_its_first_step(thousand: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("train.retrain.work.train_and_choose", stopped)
        result = thousand("retrain", "--yes", "--name", "second", *short_prompts(trained))
    assert "Stopped; what is done is saved. Go on with: thousand retrain" in result.err


def test_a_dialogue_that_was_deleted_meanwhile_is_not_learnt(
    thousand: Command, own: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(own, [kept(1), kept(2)])
    stopped_before_its_first_step(thousand, trained, monkeypatch)
    keep(own, [kept(1)])
    result = thousand("retrain")
    assert result.code == 1
    assert "1 of the dialogues that second was begun with were deleted or changed since" in result.err
    assert "thousand retrain --fresh" in thousand("retrain", "status").out
    result = thousand("retrain", "--fresh", "--yes", "--name", "third", *short_prompts(trained))
    assert result.code == 0, result.err
    assert fingerprint(kept(2)) not in {one.fingerprint for one in read_lineage("third") or ()}
    assert not (own / "runs" / "second").exists()
    assert not (own / "retrain" / "second").exists()


def test_one_that_was_killed_is_seen_as_that(
    thousand: Command, own: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(own, [kept(1)])
    stopped_before_its_first_step(thousand, trained, monkeypatch)
    left = state.read_state()
    assert left is not None
    state.write_state(left.model_copy(update={"ended": None, "said": "", "done": 3, "total": 9}))
    status = thousand("retrain", "status").out
    assert "second ended without a word while it was training: it was killed" in status
    assert state.standing().can_go_on


def test_only_one_at_a_time(thousand: Command, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "SETTLE", 0)
    keep(own, [kept(1)])
    with state.alone():
        assert "A retraining is under way" in thousand("retrain", "--yes").err
        assert state.standing().running
    assert not state.standing().running


def guarded(name: str, **fields: object) -> None:
    """As if a release were a retrained one."""
    place = release.path(name)
    guard = release.Guard.model_validate({"against": "first", **fields})
    release.write(place, release.read(place).model_copy(update={"guard": guard}))


def test_a_candidate_that_the_guard_blocks_is_promoted_with_a_reason_only(thousand: Command, registry: Path) -> None:
    reasons = ["It repeats itself more.", "It passes fewer of the safety prompts."]
    guarded("second", compared=release.now(), reasons=reasons)
    for override in ((), ("--override", " ")):
        refused = thousand("releases", "promote", "second", *override)
        assert refused.code == 1
        assert all(reason.rstrip(".") in refused.err for reason in reasons)
        assert '--override "WHY"' in refused.err
        assert release.current() == "first"
    result = thousand("releases", "promote", "second", "--override", "its manner is what we want")
    assert "second is current; it replaces first" in result.out
    shown = json.loads(thousand("releases", "show", "second").out.partition("\n")[2])
    assert shown["guard"]["override"]["why"] == "its manner is what we want"
    assert shown["guard"]["reasons"] == reasons
    assert "first is current again" in thousand("releases", "rollback").out
    assert thousand("releases", "promote", "second").code == 1, "an override is for one promotion"


def test_a_candidate_that_was_not_compared_is_not_promoted_and_an_override_needs_something_to_override(
    thousand: Command, registry: Path
) -> None:
    guarded("second")
    refused = thousand("releases", "promote", "second").err
    assert "it has not been compared with first yet (thousand retrain does that)" in refused
    guarded("second", compared=release.now())
    with pytest.raises(ThousandError, match="nothing to override"):
        release.promote("second", "just so")
    assert thousand("releases", "promote", "second").code == 0


PROMOTE = """
import os, signal, sys
from assistant import release

release.bundled = lambda name: __import__("pathlib").Path(sys.argv[1])
left = 0

def step(event, _):
    global left
    if event == "open" or event.startswith(("os.", "fcntl.")):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

def overrides():
    return release.read(release.path("second")).guard.override

place = release.path("second")
record = release.read(place)
for steps in range(1, 1000):
    release.write(place, record)
    release.promote("first")
    before = release.history()
    child = os.fork()
    if child == 0:
        left = steps
        sys.addaudithook(step)
        release.promote("second", "so it be")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    now, why = release.history(), overrides()
    assert now in (before, [*before, "second"]), now
    assert why is None or why.why == "so it be"
    assert why is not None or now == before, "never promoted without its reason on the disk"
    if now == before:
        release.promote("second", "so it be")
    assert release.history() == [*before, "second"], "once, however often it is tried"
    print(os.WIFSIGNALED(status), now != before, why is not None)
    if status == 0:
        break
"""


def test_promoting_in_spite_of_the_guard_killed_at_any_step_loses_nothing_and_doubles_nothing(
    registry: Path, tmp_path: Path
) -> None:
    guarded("second", compared=release.now(), reasons=["It repeats itself more."])
    done = subprocess.run(
        [sys.executable, "-c", PROMOTE, str(tmp_path / "none")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    outcomes = [tuple(line.split()) for line in done.stdout.splitlines()]
    assert {outcome for outcome in outcomes if outcome[0] == "True"} == {
        ("True", "False", "False"),
        ("True", "False", "True"),
        ("True", "True", "True"),
    }
    assert outcomes[-1] == ("False", "True", "True")
