"""Keeps `thousand serve` busy with all that people do to it, and watches its memory, threads and open files.

    python bench/soak.py FOLDER [--minutes 30]

At the same time: conversations of three turns streamed, whole answers, long prompts, clients that leave in the middle of an
answer or of the reading of their prompt, requests that must be refused, and the page. Every ten seconds a line goes to
FOLDER/soak.jsonl; at the end FOLDER/soak.png is drawn, and what grew is printed. Exits with 1 when anything was not
answered as it must be.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import matplotlib.pyplot as plt
import numpy as np
from asking import Prompts, Server, ask
from gradio_client import Client
from servers import ask_ours, thousand

from assistant import opening, release
from assistant.dialogue import Message, read_dialogues
from assistant.sampling import Sampling
from assistant.settings import bundled

EVERY = 10.0
"""Seconds between two looks at the server."""

SETTLED = 120.0
"""Seconds after which memory should no longer grow: every slot has been full once."""

PAUSE = {"leaving_early": 5.0, "leaving": 2.0, "refused": 2.0}
"""Seconds that who does this waits before the next time: it costs the client nothing, and would leave no place for the others."""

BAD = [
    ({"temperature": 9}, 400),
    ({"repitition_penalty": 1.1}, 400),
    ({"model": "gpt-4"}, 404),
    ({"messages": []}, 400),
    ({"messages": [{"role": "user", "content": "word " * 6000}]}, 400),
]


class Soak:
    """The server, what has been done to it, and what went wrong."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = f"http://127.0.0.1:{server.place}"
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.over = threading.Event()
        self._prompts = Prompts()
        self._lock = threading.Lock()
        self._long = [one.messages for one in read_dialogues([bundled("dialogues") / "writing.jsonl"])]

    def fresh(self) -> list[Message]:
        with self._lock:
            return self._prompts.fresh()

    def long(self, turns: int) -> list[Message]:
        """A conversation of about 150 tokens a turn."""
        pairs = [pair for pair in random.sample(self._long, turns) if len(pair) == 2]
        return [message for pair in pairs for message in pair] + self.fresh()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=300)

    def conversation(self) -> None:
        messages: list[Message] = []
        for turn in range(3):
            messages += self.fresh()
            answer = ask(self.server, messages, Sampling(max_tokens=120, seed=turn))
            if answer.status != 200 or not answer.finish_reason:
                raise ValueError(f"a streamed answer: {answer}")
            if not answer.text.strip():
                return
            messages.append(Message(role="assistant", content=answer.text))

    def whole(self) -> None:
        path, body = ask_ours(self.fresh(), Sampling(max_tokens=60))
        body |= {"stream": False}
        del body["stream_options"]
        with self.client() as client:
            client.post(path, json=body).raise_for_status().json()["choices"][0]["message"]["content"]

    def long_prompt(self) -> None:
        answer = ask(self.server, self.long(12), Sampling(max_tokens=16))
        if answer.status != 200 or not answer.finish_reason:
            raise ValueError(f"an answer to a long prompt: {answer}")

    def leaving(self) -> None:
        path, body = ask_ours(self.fresh(), Sampling(max_tokens=500, temperature=1.5))
        with self.client() as client, client.stream("POST", path, json=body) as response:
            for _, _ in zip(range(random.randint(1, 12)), response.iter_lines(), strict=False):
                pass

    def leaving_early(self) -> None:
        path, body = ask_ours(self.long(16), Sampling())
        with self.client() as client:
            try:
                client.post(path, json=body, timeout=httpx.Timeout(60, read=random.uniform(0.05, 0.5)))
            except httpx.ReadTimeout:
                return

    def refused(self) -> None:
        path, body = ask_ours(self.fresh(), Sampling(max_tokens=4))
        with self.client() as client:
            for change, status in BAD:
                if (found := client.post(path, json={**body, **change}).status_code) != status:
                    raise ValueError(f"{change} is a {found}")
            broken = client.post(path, content=b"{", headers={"content-type": "application/json"})
            foreign = client.post(path, json=body, headers={"origin": "http://evil.example"})
            if (broken.status_code, foreign.status_code) != (400, 403):
                raise ValueError(f"broken JSON and a foreign page: {broken.status_code}, {foreign.status_code}")

    def page(self) -> None:
        client = Client(self.url, verbose=False)
        for message in self.fresh():
            client.predict(message.content, max_tokens=40, api_name="/chat")

    def repeat(self, what: Callable[[], None]) -> None:
        while not self.over.is_set():
            try:
                what()
                self.done[what.__name__] += 1
                self.over.wait(PAUSE.get(what.__name__, 0))
            except Exception as error:  # whatever it is, it is what the soak looks for
                self.wrong.append(f"{what.__name__}: {type(error).__name__}: {error}")
                print(self.wrong[-1], file=sys.stderr)
                time.sleep(1)

    def look(self) -> dict[str, float]:
        processes = self.server.processes()
        return {
            "memory, MB": self.server.process.memory_info().rss / 1e6,
            "engine's memory, MB": sum(one.memory_info().rss for one in processes[1:]) / 1e6,
            "threads": sum(process.num_threads() for process in processes),
            "open files": sum(process.num_fds() for process in processes),
        }


def watch(soak: Soak, minutes: float, file: Path) -> list[dict[str, float]]:
    """Look at the server every few seconds until the time is over."""
    work = [soak.conversation, soak.conversation, soak.whole, soak.long_prompt]
    work += [soak.leaving, soak.leaving_early, soak.refused, soak.page]
    threads = [threading.Thread(target=soak.repeat, args=(what,)) for what in work]
    began = time.monotonic()
    lines = []
    with file.open("w", encoding="utf-8") as out:
        for thread in threads:
            thread.start()
        while (seconds := time.monotonic() - began) < 60 * minutes:
            lines.append({"seconds": round(seconds, 1), **soak.look(), **soak.done})
            out.write(json.dumps(lines[-1]) + "\n")
            out.flush()
            time.sleep(EVERY)
    soak.over.set()
    for thread in threads:
        thread.join(300)
    return lines


def report(lines: list[dict[str, float]], picture: Path) -> None:
    """First, last and what is added in an hour, once everything has been in use."""
    settled = [line for line in lines if line["seconds"] >= SETTLED] or lines
    names = ("memory, MB", "engine's memory, MB", "threads", "open files")
    figure, axes = plt.subplots(len(names), 1, sharex=True, figsize=(7, 7), layout="constrained")
    print(
        f"\n| | at the start | after {settled[0]['seconds']:.0f} s | at the end | most | in an hour more |\n|---|---|---|---|---|---|"
    )
    for name, axis in zip(names, axes, strict=True):
        axis.plot([line["seconds"] / 60 for line in lines], [line[name] for line in lines])
        axis.set_ylabel(name)
        axis.set_ylim(0, 1.15 * max(line[name] for line in lines))
        hours, values = [line["seconds"] / 3600 for line in settled], [line[name] for line in settled]
        slope = np.polyfit(hours, values, 1)[0] if len(settled) > 1 else 0.0
        ends = f"{lines[0][name]:.0f} | {values[0]:.0f} | {values[-1]:.0f} | {max(values):.0f}"
        print(f"| {name} | {ends} | {slope:+.1f} |")
    axes[-1].set_xlabel("minutes")
    figure.savefig(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    place = release.path(release.current())
    with thousand(opening.open_parts(place, release.read(place))[1]) as (server, _):
        soak = Soak(server)
        lines = watch(soak, options.minutes, options.folder / "soak.jsonl")
    report(lines, options.folder / "soak.png")
    print("\n" + ", ".join(f"{what} {times}" for what, times in soak.done.items()) + f"; {len(soak.wrong)} wrong")
    sys.exit(bool(soak.wrong))


if __name__ == "__main__":
    main()
