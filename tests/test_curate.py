"""`thousand data curate stackexchange`: what it selects, and why the rest went."""

from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.dumps import TITLES, answer, dropped, exchanges, lines, prose, question, row, site
from train.data.curate.choose import draw_quotas
from train.data.curate.markdown import Clean
from train.data.curate.rules import Exchange, title

pytestmark = pytest.mark.usefixtures("real_home")


@pytest.fixture
def curate(thousand: Command, tmp_path: Path) -> Command:
    """Curate some dumps into the folder `out`."""
    return lambda *given: thousand("data", "curate", "stackexchange", *given, "--to", tmp_path / "out")


def test_an_example_is_clean_and_carries_its_credit(curate: Command, tmp_path: Path) -> None:
    body = (
        f'<p>{prose(1, 20)} See <a href="https://example.org/x">the tides of the north sea</a> too, H<sub>2</sub>O.</p>\n'
        f"<ul>\n<li>one <strong>thing</strong></li>\n<li>two</li>\n</ul>\n"
        f'<pre class="lang-py prettyprint-override"><code>if a &lt; b:\n\n\n    print("I")\n</code></pre>\n<p>{prose(2, 10)}</p>'
    )
    dump = site(
        tmp_path / "garden",
        question(10, CreationDate="2010-01-01T00:00:00.000"),
        answer(11, body, OwnerUserId=8),
        question(20, OwnerDisplayName="Left Since", OwnerUserId=""),
        answer(21, ContentLicense="CC BY-SA 3.0"),
        users=(row(Id=7, DisplayName="Ann Asker"), row(Id=8, DisplayName="Bob & Co")),
    )
    result = curate(dump)
    assert result.code == 0
    first, second = lines(tmp_path / "out" / "stackexchange.jsonl")
    text = first["messages"][1]["content"]
    assert first["messages"][0]["content"] == TITLES[0]
    assert "See the tides of the north sea too, H₂O." in text
    assert "- one **thing**\n- two\n" in text
    assert '```py\nif a < b:\n\n\n    print("I")\n```' in text
    assert first["license"] == "CC-BY-SA-4.0"
    assert first["provenance"]["works"] == [
        {
            "url": "https://garden.stackexchange.com/q/10",
            "author": "Ann Asker",
            "author_url": "https://garden.stackexchange.com/users/7",
            "license": "CC-BY-SA-2.5",
        },
        {
            "url": "https://garden.stackexchange.com/a/11",
            "author": "Bob & Co",
            "author_url": "https://garden.stackexchange.com/users/8",
            "license": "CC-BY-SA-4.0",
        },
    ]
    works = second["provenance"]["works"]
    assert [work["author"] for work in works] == ["Left Since", "Bob & Co"]
    assert [work["license"] for work in works] == ["CC-BY-SA-3.0", "CC-BY-SA-3.0"]


def test_what_is_selected_can_be_audited_and_read(curate: Command, thousand: Command, tmp_path: Path) -> None:
    assert curate(site(tmp_path / "garden", *exchanges(3))).code == 0
    assert thousand("data", "audit", tmp_path / "out").code == 0


P = prose("a rule")
FAULTS = {
    "title": (question(10, "What is wrong with this one?"), answer(11)),
    "answer-length": (question(10), answer(11, f"<p>{prose(1, 10)}</p>")),
    "first-person": (question(10), answer(11, f"<p>{P} That is how I do it.</p>")),
    "other-answers": (question(10), answer(11, f"<p>{P} The other answers have the details.</p>")),
    "the-site": (question(10), answer(11, f"<p>{P}</p><p><strong>EDIT:</strong> a word more.</p>")),
    "unseen": (question(10), answer(11, f'<p>{P} Look <a href="https://example.org">here</a>.</p>')),
    "answer-score": (question(10), answer(11, Score=9)),
    "question-score": (question(10, Score=2), answer(11)),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_each_rule_drops_its_fault_and_explains_it(rule: str, curate: Command, tmp_path: Path) -> None:
    dump = site(tmp_path / "garden", *FAULTS[rule], *exchanges(3)[2:])
    assert f"{rule}: drops it: " in curate(dump, "--explain", "garden-10").out
    kept = curate(dump, "--explain", "garden-20").out
    assert "drops it" not in kept
    assert kept.endswith("selected\n")
    result = curate(dump)
    assert result.code == 0
    assert dropped(result) == {rule: 1}
    assert [line["id"] for line in lines(tmp_path / "out" / "stackexchange.jsonl")] == ["garden-20", "garden-30"]


def test_code_quotations_and_numerals_are_not_the_answerers_own_words(curate: Command, tmp_path: Path) -> None:
    body = (
        f"<p>{prose(3, 25)} World War I and a type I error; he said “I did”.</p><blockquote><p>I was there.</p></blockquote>"
        f"<pre><code>my = I + me  # edit: see the link above</code></pre><p>{prose(4, 5)} Write <code>my_name</code>.</p>"
    )
    assert curate(site(tmp_path / "garden", question(10), answer(11, body))).code == 0
    assert len(lines(tmp_path / "out" / "stackexchange.jsonl")) == 1


def test_an_answer_that_quotes_its_asker_is_dropped_and_a_saying_is_no_reference(
    curate: Command, tmp_path: Path
) -> None:
    asked = "<p>The old mill stands still at night, and nobody says why.</p>"
    quotes = f"<blockquote><p>The old mill stands still at night,</p></blockquote><p>{prose(5)}</p>"
    dump = site(
        tmp_path / "garden",
        question(10, Body=asked),
        answer(11, quotes),
        question(20, Body=asked),
        answer(21, f"<blockquote><p>A proverb by somebody else altogether.</p></blockquote><p>{prose(6)}</p>"),
        question(30, "To rest or not to rest, that is the question?"),
        answer(31),
    )
    assert "unseen: drops it: a quotation of the asker's text" in curate(dump, "--explain", "garden-10").out
    assert dropped(curate(dump)) == {"unseen": 1}
    found = lines(tmp_path / "out" / "stackexchange.jsonl")
    assert [line["id"] for line in found] == ["garden-20", "garden-30"]


def test_the_top_answer_is_judged_and_no_other_takes_its_place(curate: Command, tmp_path: Path) -> None:
    too_short = row(Id=12, PostTypeId=2, ParentId=10, Score=40, Body="<p>Short.</p>")
    result = curate(site(tmp_path / "garden", question(10), answer(11), too_short))
    assert result.code == 0
    assert dropped(result) == {"answer-length": 1}
    assert "nothing was left to select" in result.out


def test_the_prompt_is_title_or_description_by_the_seed(thousand: Command, tmp_path: Path) -> None:
    posts = [
        post
        for n in range(10, 60, 10)
        for post in (question(n, Body=f"<p>{prose(-n, 3)} Does the wheel turn at night?</p>"), answer(n + 1))
    ]
    dump = site(tmp_path / "garden", *posts)
    prompts = []
    for seed, folder in ((1, "a"), (1, "b"), (2, "c")):
        assert thousand("data", "curate", "stackexchange", dump, "--to", tmp_path / folder, "--seed", seed).code == 0
        found = lines(tmp_path / folder / "stackexchange.jsonl")
        prompts.append({line["id"]: line["messages"][0]["content"] for line in found})
    assert prompts[0] == prompts[1] != prompts[2]
    titled = sum(prompt in TITLES for prompt in prompts[0].values())
    assert 0 < titled < len(prompts[0])


def test_of_two_alike_the_better_stays_and_nothing_held_out_comes_in(curate: Command, tmp_path: Path) -> None:
    dev = lines(Path(__file__).parent.parent / "data" / "dialogues" / "dev.jsonl")
    held_out = next(
        text
        for line in dev
        if (text := line["messages"][0]["content"]).endswith("?")
        and "\n" not in text
        and not title(Exchange(text, Clean("", (), ()), Clean("", (), ())))
    )
    dump = site(
        tmp_path / "garden",
        question(10, Score=5),
        answer(11, f"<p>{prose('twin')}</p>"),
        question(20),
        answer(21, f"<p>{prose('twin')} And a word more.</p>"),
        question(30, held_out),
        answer(31),
        question(40, "For what reason does the dough of bread need rest?"),
        answer(41),
    )
    result = curate(dump)
    assert dropped(result) == {"contamination": 1, "near-duplicate-answer": 1}
    assert [line["id"] for line in lines(tmp_path / "out" / "stackexchange.jsonl")] == ["garden-20", "garden-40"]
    assert "near-duplicate-answer: drops it: its answer shares" in curate(dump, "--explain", "garden-10").out


def test_as_many_of_each_group_as_wanted_far_from_one_another(curate: Command, tmp_path: Path) -> None:
    site(tmp_path / "dumps" / "physics.stackexchange.com", *exchanges())
    site(tmp_path / "dumps" / "garden", *(post.replace('Title="', 'Title="Please: ') for post in exchanges()))
    site(tmp_path / "dumps" / "meta.garden", *exchanges())
    site(tmp_path / "dumps" / "ja", *exchanges())
    result = curate(tmp_path / "dumps", "--stem", 3, "--other", 0)
    assert result.code == 0
    assert "meta.garden is left out" in result.err
    assert "ja is left out" in result.err
    found = lines(tmp_path / "out" / "stackexchange.jsonl")
    assert [line["topic"] for line in found] == ["stem"] * 3
    again = curate(tmp_path / "dumps", "--stem", 3, "--other", 0)
    assert again.code == 1
    assert "exists already" in again.err


def test_sites_are_drawn_by_the_third_root_of_their_size() -> None:
    quotas = draw_quotas({"large": 8_000_000, "small": 1_000_000, "tiny": 5}, 3_000, seed=0)
    assert quotas["tiny"] == 5
    assert quotas.total() == 3_000
    assert 1.8 < quotas["large"] / quotas["small"] < 2.2
    assert draw_quotas({"a": 2, "b": 1}, 10, seed=0) == Counter(a=2, b=1)


def test_comments_of_asker_and_answerer_become_a_chain_to_edit(curate: Command, tmp_path: Path) -> None:
    def comment(number: int, user: int, text: str, post: int = 21) -> str:
        return row(Id=number, PostId=post, Score=0, Text=text, UserId=user)

    dump = site(
        tmp_path / "garden",
        *exchanges(2),
        comments=(
            comment(1, 8, "The answerer says something before he is asked."),
            comment(2, 7, "@Bob And does it hold for [rye bread](https://example.org) as well?"),
            comment(3, 9, "Somebody else has an opinion on all of that."),
            comment(4, 8, "@Ann: it does, only slower."),
            comment(5, 8, "A colder kitchen makes it slower still."),
            comment(6, 7, "Thanks, that is what was missing here!"),
            comment(7, 7, "thanks!", post=11),
            comment(8, 8, "You are welcome.", post=11),
        ),
        users=(row(Id=7, DisplayName="Ann Asker"), row(Id=8, DisplayName="Bob & Co")),
    )
    result = curate(dump, "--other", 1)
    assert result.code == 0
    assert "1 chains to edit" in result.out
    [chain] = lines(tmp_path / "out" / "to-edit" / "chains.jsonl")
    assert [message["role"] for message in chain["messages"]] == ["user", "assistant"] * 2
    assert [message["content"] for message in chain["messages"][2:]] == [
        "And does it hold for rye bread as well?",
        "it does, only slower. A colder kitchen makes it slower still.",
    ]
    assert [(work["url"].partition(".com/")[2], work["author"]) for work in chain["provenance"]["works"]] == [
        ("q/20", "Ann Asker"),
        ("a/21", "Bob & Co"),
        ("posts/comments/2", "Ann Asker"),
        ("posts/comments/4", "Bob & Co"),
        ("posts/comments/5", "Bob & Co"),
    ]
    assert [line["id"] for line in lines(tmp_path / "out" / "stackexchange.jsonl")] == ["garden-10"]


def test_what_is_too_near_is_made_good_from_further_down(curate: Command, tmp_path: Path) -> None:
    twins = [post for n in range(10, 90, 10) for post in (question(n, TITLES[0], Score=90), answer(n + 1))]
    others = [post for n in (110, 120) for post in (question(n, TITLES[n // 10 - 9]), answer(n + 1))]
    result = curate(site(tmp_path / "garden", *twins, *others), "--other", 2)
    assert dropped(result) == {"duplicate-prompt": 7, "selection": 1}
    assert "more are looked at" in result.err
    assert lines(tmp_path / "out" / "stackexchange.jsonl")[0]["id"] == "garden-10"
