"""The code in the training data works: every fenced block of an answer is run, and does what its answer says.

A model learns the code it is shown. Blocks are read from the data by the id of their dialogue and their number in it,
never copied here; a table holds what a block needs around it and what its answer or the question promises.
"""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import sync_playwright

from assistant.dialogue import read_dialogues

DATA = Path(__file__).parent.parent / "data" / "dialogues"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
Block = tuple[str, int]
Program = Callable[[str, str], str]

CANNOT_RUN: dict[Block, str] = {}
"""Blocks that cannot be run here, with the reason; there is none now."""


class Fence(NamedTuple):
    """A fenced block of an answer, and the question before it."""

    language: str
    code: str
    question: str


@cache
def fences() -> dict[Block, Fence]:
    """Every fenced block in the answers of the training data and of `dev.jsonl`."""
    found: dict[Block, Fence] = {}
    for dialogue in read_dialogues([DATA, DATA / "dev.jsonl"], held_out=True):
        blocks = [
            Fence(token.info, token.content, asked.content)
            for asked, answer in pairwise(dialogue.messages)
            for token in MarkdownIt().parse(answer.content)
            if answer.role == "assistant" and token.type == "fence"
        ]
        found |= {(str(dialogue.id), number): block for number, block in enumerate(blocks)}
    return found


def run(folder: Path, *command: str, stdin: str = "", needs: str = "") -> subprocess.CompletedProcess[str]:
    """A command in a folder that is its home too; the test is skipped where the tool is missing."""
    if not shutil.which(needs or command[0]):
        pytest.skip(f"{needs or command[0]} is not installed here")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(command, cwd=folder, env=env, input=stdin, capture_output=True, text=True, timeout=60)


def run_sql(script: str) -> str:
    """The rows of the last statement, sorted because no answer promises an order."""
    db = sqlite3.connect(":memory:")
    *_, rows = [db.execute(statement).fetchall() for statement in script.split(";") if statement.strip()]
    return "".join(sorted("|".join(map(str, row)) + "\n" for row in rows))


def swap(text: str, old: str, new: str) -> str:
    """Replace what must be there: a block that has changed must not run with its own paths and process numbers."""
    assert old in text, f"{old!r} is no longer in {text!r}"
    return text.replace(old, new)


def around(before: str = "", after: str = "") -> Program:
    """The block with something before and after it."""
    return lambda code, question: before + code + after


def search_loop(code: str, question: str) -> str:
    """The loop of the question with the line that the answer gives, for the `t` of the answer and others."""
    loop = swap(question[question.index("lo, hi") :], "mid = (lo + hi) // 2", code.strip())
    return "".join(f"a, t = [1, 3, 5, 7], {t}\n{loop}\nprint(lo)\n" for t in range(1, 9))


class Case(NamedTuple):
    """A block as a program: what it prints, what stands around it, the files, input and tool it needs."""

    identifier: str
    number: int
    prints: str
    program: Program = around()
    files: dict[str, str] | None = None
    stdin: str = ""
    needs: str = ""


STAFF = """import sqlite3; cur = sqlite3.connect(":memory:").cursor()
cur.executescript("CREATE TABLE staff (name); INSERT INTO staff VALUES ('O''Brien'), ('Ada')")
for name in ["O'Brien", "x' OR '1'='1"]: print("""
NOTES = "".join(f"{letter}, {letter.upper()}!\n" * count for count, letter in enumerate("abcdefghijkl", 1))
TEN_WORDS = "l 24\nk 22\nj 20\ni 18\nh 16\ng 14\nf 12\ne 10\nd 8\nc 6\n"
EXPENSES = "date,category,amount\n1 May,food,20.5\n1 May,rent,700\n2 May,fun,12\n3 May,food,10.25\n"
PYTHON = [
    Case("stem-0051", 0, "['Ana']\n['Ben']\n"),
    Case("stem-0055", 0, "A.K.L.\n", around(after="print(initials('ada king  lovelace'))")),
    Case("stem-0057", 0, "0\n0\n1\n1\n2\n2\n3\n3\n", search_loop),
    Case("stem-0155", 0, "2\n", files={"birds.csv": "species,day\nwren,1\ngull,1\nwren,2\n"}),
    Case("stem-0163", 0, '[("O\'Brien",)]\n[]\n', around(STAFF, ".fetchall())")),
    Case("assistant-0005", 0, "[3, 1, 2]\n", around(after="print(unique([3, 1, 3, 2, 1]))")),
    Case("assistant-0068", 0, "age? 31\n", stdin="30\n"),
    Case("assistant-0068", 1, "age? Please type a whole number.\nage? 31\n", stdin="ten\n30\n"),
    Case("assistant-0114", 0, TEN_WORDS, files={"notes.txt": NOTES}),
    Case("assistant-0137", 0, "rent: 700.00\nfood: 30.75\nfun: 12.00\n", files={"expenses.csv": EXPENSES}),
    Case("assistant-0160", 0, "['Deborah']\n"),
    Case("assistant-0172", 0, "Ada\n"),
    Case("dev-0006", 0, "Ada\n", files={"people.csv": "\ufeffname,age\nAda,36\n"}),
]

COMMITS = """git init -q -b main; git config user.name Ada; git config user.email ada@example.com
for n in one two three; do echo "$n" > "$n.txt"; git add .; git commit -q -m "$n"; done;"""
BRANCHES = "git branch --show-current\ngit log --format=%s main\ngit log --format=%s new-login\nls\n"
SIZES = """mkdir 'a b'; head -c 1500000 /dev/urandom > 13.bin
for n in {1..12}; do head -c $((n * 40960)) /dev/urandom > "a b/$n.bin"; done;"""
BIGGEST = "./13.bin\n" + "".join(f"./a b/{n}.bin\n" for n in range(12, 3, -1))
PICTURES = "touch 'a b.jpeg' dog.jpeg\necho new > cat.jpeg\necho old > cat.jpg\n"
WEEKS = " ".join(f"week{n:02}" for n in range(1, 13)) + "\nweek03/notes\n"
CARD = """mkdir -p card/day photos; touch -d 2020-01-02 card/new.jpg card/day/deep.jpg
echo from the card > card/have.jpg; echo mine > photos/have.jpg;"""
COPIED = "cd photos\nfind . -type f | sort\ncat have.jpg\ndate -r day/deep.jpg +%F\n"
BASH = [
    Case("stem-0053", 0, "new-login\none\nthree\ntwo\none\none.txt\nthree.txt\ntwo.txt\n",
         lambda code, question: f"{COMMITS}{{ {code}}} > /dev/null\n{BRANCHES}", needs="git"),
    Case("stem-0073", 0, BIGGEST,  # what is left of a line once a size that is easy to read has been cut off
         lambda code, question: rf"{SIZES}{code.strip()} | sed -E 's/^[0-9.]+[KM]\t//'"),
    Case("stem-0174", 0, "a.md\ndone\n-old.txt\nshopping list.txt\n", around(after="ls\nls done\n"),
         {"shopping list.txt": "eggs", "-old.txt": "", "a.md": ""}),
    Case("assistant-0019", 0, "a b.jpg\ncat.jpeg\ncat.jpg\ndog.jpg\nold\n", around(PICTURES, "ls\ncat cat.jpg\n")),
    Case("assistant-0057", 0, WEEKS, around("mkdir week03\ntouch week03/notes\n", "echo *\necho week03/*\n")),
    Case("assistant-0150", 0, "./day/deep.jpg\n./have.jpg\n./new.jpg\nmine\n2020-01-02\n",
         lambda code, question: CARD + swap(code, "/media/card/", "card/") + COPIED, needs="rsync"),
    Case("dev-0042", 0, "b\nf\n", files={"log.txt": "a b c d\nx y z\n\ne f g h i\n"}),
]  # fmt: skip

SHOP = """CREATE TABLE customers (id, name); INSERT INTO customers VALUES (1, 'Ada'), (2, 'Ada'), (3, 'Cy');
CREATE TABLE orders (id, customer_id, amount);"""
LOST_ORDER = SHOP + "INSERT INTO orders VALUES (1, 1, 50), (2, NULL, 50);"
INSTALMENTS = f"""{SHOP} INSERT INTO orders VALUES (1, 1, 100), (2, 1, 50), (3, 2, 50), (4, 2, 50), (5, 3, 20);
CREATE TABLE payments (order_id, paid); INSERT INTO payments VALUES (1, 40), (1, 30), (1, 30), (3, 50);"""
MAILS = """CREATE TABLE subscribers (id, email, joined);
INSERT INTO subscribers (id, email) VALUES (4, 'a'), (2, 'b'), (1, 'a'), (3, 'a'), (5, 'c'), (6, 'b');"""
PLANS = """CREATE TABLE users (id, plan); INSERT INTO users VALUES (1, 'free'), (2, 'free'), (3, 'free');
CREATE TABLE users_backup (id, plan); INSERT INTO users_backup VALUES (1, 'pro'), (2, 'team');"""
RECORDS = """CREATE TABLE records (id INTEGER PRIMARY KEY, artist, title, genres);
INSERT INTO records VALUES (1, 'Ash', 'One', 'rap,soul'), (2, 'Bo', 'Two', 'trap');"""
GENRES = "INSERT INTO record_genres VALUES (1, 'rap'), (1, 'soul'), (2, 'trap');"
NO_SUCH_RECORD = "INSERT INTO record_genres VALUES (9, 'rap'); PRAGMA foreign_key_check"
SQL = [
    Case("stem-0061", 0, "Ada\nCy\n", around(LOST_ORDER)),
    Case("stem-0061", 1, "1\n", around(LOST_ORDER)),
    Case("stem-0063", 0, "1\n2\n5\n", around(MAILS, "SELECT id FROM subscribers")),
    Case("stem-0065", 0, "1|pro\n2|team\n3|free\n", around(PLANS, "SELECT id, plan FROM users")),
    Case("stem-0161", 0, "record_genres|4|records|0\n", around(RECORDS, GENRES + NO_SUCH_RECORD)),
    Case("stem-0161", 1, "Ash|One\n", lambda code, _: RECORDS + fences()["stem-0161", 0].code + GENRES + code),
    Case("stem-0162", 0, "Ada|100|50\nAda|150|100\nCy|20|None\n", around(INSTALMENTS)),
]

PATHS = """const orders = [];
for (const draws of [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]].map(([i, j]) => [(i + 0.5) / 3, (j + 0.5) / 2])) {
  Math.random = () => draws.shift();
  orders.push(shuffle([1, 2, 3]).join(""));
}
console.log(orders.sort().join(" "));"""
TIMERS = """let waiting = [];
globalThis.setTimeout = (run, delay) => { waiting.push({ run, delay }); return waiting.at(-1); };
globalThis.clearTimeout = (timer) => { waiting = waiting.filter((other) => other !== timer); };"""
TYPING = """const late = debounce((text) => console.log(text), 300);
for (const text of ["a", "ab", "abc"]) late(text);
console.log(waiting.length, waiting[0].delay); waiting[0].run();"""
JAVASCRIPT = [
    Case("stem-0052", 0, "[ 1, 2, 9, 10 ]\n"),
    Case("stem-0160", 0, "123 132 213 231 312 321\n", around(after=PATHS)),
    Case("assistant-0184", 0, "1 300\nabc\n", around(TIMERS, TYPING)),
]

BOARD = """#include <cstdio>
enum { LOW, HIGH, INPUT, OUTPUT, INPUT_PULLUP };
int mode[20], light, noise, pressed;
void pinMode(int pin, int set) { mode[pin] = set; }
int digitalRead(int pin) { return pressed ? LOW : mode[pin] == INPUT_PULLUP ? HIGH : (noise = !noise); }
void digitalWrite(int pin, int level) { if (pin == 13 && mode[13] == OUTPUT) light = level; }"""
PRESSES = """int main() { setup();
  for (int turn = 0; turn < 9; turn++) { pressed = turn % 2; loop(); std::printf("%d", light); } }"""
SIZE_OF_WORD = around("#include <stdio.h>\nint main(void) {", 'printf("%zu", sizeof word);}')
C_AND_CPP = [
    Case("stem-0151", 0, "hello\n6", SIZE_OF_WORD, needs="gcc"),
    Case("stem-0129", 0, "010101010", around(BOARD, PRESSES), needs="g++"),
]
PROGRAMS = [*PYTHON, *BASH, *SQL, *JAVASCRIPT, *C_AND_CPP]
COMPILE = 'echo "$0" | {} -Wall -Wextra -Werror -o program - && ./program'
COMMANDS = {"python": (sys.executable, "-I", "-c"), "bash": ("bash", "-c"), "javascript": ("node", "-e")}
COMMANDS |= {"c": ("bash", "-c", COMPILE.format("gcc -xc")), "cpp": ("bash", "-c", COMPILE.format("g++ -xc++"))}


@pytest.mark.parametrize("case", PROGRAMS, ids=lambda case: f"{case.identifier}-{case.number}")
def test_a_program_prints_what_its_answer_says(case: Case, tmp_path: Path) -> None:
    fence = fences()[case.identifier, case.number]
    program = case.program(fence.code, fence.question)
    if fence.language == "sql":
        assert run_sql(program) == case.prints
        return
    for name, content in (case.files or {}).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    done = run(tmp_path, *COMMANDS[fence.language], program, stdin=case.stdin, needs=case.needs)
    assert (done.returncode, done.stdout) == (0, case.prints), done.stderr


def dice(fence: Fence, folder: Path) -> None:
    done = run(folder, sys.executable, "-I", "-c", "import random\nrandom.seed(1)\n" + fence.code)
    lines = [line.replace(":", "").split() for line in done.stdout.splitlines()]
    counts = {int(total): int(count) for total, count, _ in lines}
    assert [*counts] == [*range(2, 13)] and sum(counts.values()) == 10_000
    assert all(share == f"{int(count) / 10_000:.1%}" for _, count, share in lines)
    assert all(abs(counts[total] - 10_000 * (6 - abs(total - 7)) / 36) < 150 for total in counts)


def zombies(fence: Fence, folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-I", "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has collected it yet
        lines = [line.split() for line in run(folder, "bash", "-c", fence.code).stdout.splitlines()]
    assert [str(child.pid), str(os.getpid())] in [line[:2] for line in lines]
    assert all(line[2].startswith("Z") for line in lines)


def stubborn_child(fence: Fence, folder: Path) -> None:
    deaf = "from signal import *; signal(SIGTERM, SIG_IGN); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-I", "-c", deaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline()
        child.terminate()
        code = swap(fence.code, "1234", str(child.pid))
        run(folder, "bash", "-c", code)
        assert child.wait(timeout=30) == -signal.SIGKILL
    left = run(folder, "bash", "-c", code.splitlines()[1]).stdout.splitlines()
    assert [line.split() for line in left] == [["PID", "PPID", "STAT", "CMD"]], "only the headings: it is gone"


def names_in_two_cells(fence: Fence, folder: Path) -> None:
    excel = {"LEFT": lambda text, count: text[:count], "MID": lambda text, start, count: text[start - 1 :][:count]}
    excel |= {"FIND": lambda part, text: text.index(part) + 1, "LEN": len}  # Excel counts from 1
    cells = [eval(formula.removeprefix("="), excel | {"A2": "Ada Lovelace"}) for formula in fence.code.splitlines()]
    assert cells == ["Ada", "Lovelace"]


def times_of_day(fence: Fence, folder: Path) -> None:
    pattern, untied = fence.code.strip(), fence.code.strip().strip("^$")
    good, bad = ["07:30", "23:59", "00:00", "19:59", "20:00"], ["24:00", "7:30", "12:60", "107:30", "07:305"]
    assert re.findall(r"[\d:]{4,}", fence.question) == good[:2] + bad[:2]
    assert [time for time in good + bad if re.search(pattern, time)] == good
    assert re.search(untied, "107:305") and re.search(rf"\b{untied}\b", "at 07:30 sharp")


BY_HAND: dict[Block, Callable[[Fence, Path], None]] = {
    ("stem-0172", 0): zombies,
    ("howto-0128", 0): names_in_two_cells,
    ("assistant-0069", 0): stubborn_child,
    ("assistant-0092", 0): times_of_day,
    ("assistant-0199", 0): dice,
}
CENTRED: Block = ("assistant-0081", 0)


@pytest.mark.parametrize("block", BY_HAND, ids=str)
def test_a_block_that_needs_a_test_of_its_own(block: Block, tmp_path: Path) -> None:
    BY_HAND[block](fences()[block], tmp_path)


@pytest.mark.browser
def test_the_div_is_centred_both_ways() -> None:
    if not CHROMIUM:
        pytest.skip("Chromium is not installed here")
    style = fences()[CENTRED].code + "body { margin: 0 }"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 800, "height": 600})
        page.set_content(f"<style>{style}</style><div class=parent><div>hello</div></div>")
        box = page.locator(".parent > div").bounding_box()
        browser.close()
    assert box and box["height"] < 100
    assert (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) == pytest.approx((400, 300), abs=1)


def test_every_block_is_run_or_listed_with_its_reason() -> None:
    known = [*((case.identifier, case.number) for case in PROGRAMS), *BY_HAND, CENTRED, *CANNOT_RUN]
    assert sorted(known) == sorted(fences()), "a block is new, gone, or named twice"
    assert all(reason.strip() for reason in CANNOT_RUN.values())
