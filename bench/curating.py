"""How fast `thousand data curate` reads, and how much memory it takes: Stack Exchange, a table, message trees.

    python bench/curating.py DUMP FOLDER [--gigabytes 2] [--only table]

DUMP is a folder of sites with Posts.xml and Comments.xml. They are repeated in FOLDER until they have that size, each
time with other numbers and, so that they are no duplicates, with other words: a word of six letters or more becomes the
one that stands some places further among those of its length. The table and the message trees are made of the same
questions and answers, a twentieth as big, as each of their rows is judged. Memory is what the command and its processes
have for themselves, with their share of what they have together (PSS), looked at twice a second.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil

WORD = re.compile(r"(?<=[ (])[a-z]{6,}(?=[ ,.;:)?!])")
NUMBER = re.compile(r'( (?:Id|ParentId|AcceptedAnswerId|PostId)=")(\d+)"')
APART = 10_000_000
"""Between the numbers of a post and of its next copy."""


class Words:
    """Other words for those of a text, one for one."""

    def __init__(self, text: str) -> None:
        by_length: defaultdict[int, set[str]] = defaultdict(set)
        for word in WORD.findall(text):
            by_length[len(word)].add(word)
        self._known = {length: sorted(words) for length, words in by_length.items()}
        self._place = {word: place for words in self._known.values() for place, word in enumerate(words)}

    def other(self, text: str, copy: int) -> str:
        def another(found: re.Match[str]) -> str:
            words = self._known[len(found[0])]
            return words[(self._place[found[0]] + 7919 * copy) % len(words)]

        return WORD.sub(another, text) if copy else text


def copies(file: Path, size: int) -> Iterator[str]:
    """The rows of a table, again and again until they have `size` bytes."""
    rows = [row for row in file.read_text(encoding="utf-8-sig").splitlines() if row.lstrip().startswith("<row")]
    words, copy, done = Words("\n".join(rows)), 0, 0
    while done < size:
        for row in rows:
            apart = copy * APART
            new = NUMBER.sub(lambda found: f'{found[1]}{int(found[2]) + apart}"', words.other(row, copy))  # noqa: B023
            done += len(new.encode()) + 1
            yield new
        copy += 1


def repeat(dump: Path, folder: Path, size: int) -> None:
    """The dump at `size` bytes, its tables as big to one another as they are."""
    whole = sum(file.stat().st_size for file in dump.glob("*/*.xml") if file.stem in ("Posts", "Comments"))
    for file in sorted(dump.glob("*/*.xml")):
        if file.stem not in ("Posts", "Comments"):
            continue
        target = folder / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", encoding="utf-8") as out:
            out.write(f'<?xml version="1.0" encoding="utf-8"?>\n<{file.stem.lower()}>\n')
            for row in copies(file, size * file.stat().st_size // whole):
                out.write(row + "\n")
            out.write(f"</{file.stem.lower()}>\n")


def exchanges(dump: Path, size: int) -> Iterator[tuple[str, dict[str, str], list[dict[str, str]]]]:
    """Site, question, and its answers by score, until their texts have `size` bytes."""
    files = sorted(dump.glob("*/Posts.xml"))
    for file in files:
        questions: dict[str, dict[str, str]] = {}
        answers: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
        site, done = file.parent.name, 0
        once = sum(row.lstrip().startswith("<row") for row in file.read_text(encoding="utf-8-sig").splitlines())
        for number, row in enumerate(copies(file, 100 * size), 1):
            post = dict(ElementTree.fromstring(row).attrib)
            if post["PostTypeId"] == "1":
                questions[post["Id"]] = post
            elif post["PostTypeId"] == "2":
                answers[post["ParentId"]].append(post)
            if number % once:
                continue
            for found in questions.keys() & answers.keys():
                best = sorted(answers[found], key=lambda answer: -int(answer["Score"]))
                done += len(questions[found]["Body"]) + sum(len(answer["Body"]) for answer in best)
                yield site, questions[found], best
            questions, answers = {}, defaultdict(list)
            if done > size / len(files):
                break


def table(dump: Path, file: Path, size: int) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "title", "body", "score", "site"])
        for site, question, (best, *_) in exchanges(dump, 2 * size):  # of which the best answers are about the half
            writer.writerow([f"{site}-{question['Id']}", question["Title"], best["Body"], best["Score"], site])


def trees(dump: Path, file: Path, size: int) -> None:
    """Message trees of title and answers, without markup."""

    def message(post: dict[str, str], text: str, role: str, **more: Any) -> dict[str, Any]:
        plain = re.sub(r"<[^>]*>", "", text)
        own = {"message_id": post["Id"], "text": plain, "role": role, "lang": "en", "deleted": False, "labels": {}}
        return {**own, "review_result": True, "replies": [], **more}

    with file.open("w", encoding="utf-8") as out:
        for site, question, answers in exchanges(dump, size):
            replies = [message(post, post["Body"], "assistant", rank=rank) for rank, post in enumerate(answers)]
            prompt = message(question, question["Title"], "prompter", replies=replies)
            tree = {"message_tree_id": f"{site}-{question['Id']}", "tree_state": "ready_for_export", "prompt": prompt}
            out.write(json.dumps(tree) + "\n")


def memory(process: psutil.Process) -> list[int]:
    """Bytes of the process, then of those it has started."""
    found = []
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            found.append(one.memory_full_info().pss)
    return found


def run(arguments: list[str]) -> None:
    """Run the command, show what it prints with the seconds before it, and say what it took."""
    began, most, alone = time.monotonic(), 0, 0
    before = psutil.cpu_times()
    process = subprocess.Popen(
        [sys.executable, "-m", "assistant", "data", "curate", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def show() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{time.monotonic() - began:7.1f} s  {line}", end="", flush=True)

    reader = threading.Thread(target=show)
    reader.start()
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.Error):
            found = memory(watched)
            most, alone = max(most, sum(found)), max(alone, found[0])
        time.sleep(0.5)
    reader.join()
    seconds, after = time.monotonic() - began, psutil.cpu_times()
    busy = after.user + after.system - before.user - before.system
    print(f"exit status {process.returncode}; {seconds:.0f} s; the machine's cores were busy for {busy:.0f} s")
    print(f"memory at most: {most / 1e6:.0f} MB in all, {alone / 1e6:.0f} MB of it the first process's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--only", choices=("stackexchange", "table", "openassistant"))
    asked = parser.parse_args()
    size, folder = int(asked.gigabytes * 1e9), asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["--prompt", "title", "--answer", "body", "--score", "score", "--id", "id", "--group", "site", "--html"]
    made: dict[str, tuple[Path, Callable[[Path], None], list[str]]] = {
        "stackexchange": (folder / "dump", lambda to: repeat(asked.dump, to, size), []),
        "table": (folder / "table.csv", lambda to: table(asked.dump, to, size // 20), columns),
        "openassistant": (folder / "trees.jsonl", lambda to: trees(asked.dump, to, size // 20), []),
    }
    for name, (source, make, options) in made.items():
        if asked.only not in (None, name):
            continue
        if not source.exists():
            make(source)
        files = source.rglob("*.xml") if source.is_dir() else [source]
        print(f"\n{name}: {sum(file.stat().st_size for file in files) / 1e9:.2f} GB", flush=True)
        run([name, str(source), "--to", str(folder / name), *options])


if __name__ == "__main__":
    sys.exit(main())
