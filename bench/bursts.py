"""Questions that come in bursts: who is answered at once, who has to wait, who is refused.

    python bench/bursts.py [--minutes 3] [--seed 0]

The arrivals are made up, not recorded: a Poisson process whose rate changes between two states (a Markov-modulated
Poisson process, the textbook model of bursty traffic). Calm lasts 20 seconds on average with one question in two
seconds, a burst 8 seconds with 15 a second, far more than two cores can answer. Nobody asks again when refused. Exits
with 1 when a question got neither a whole answer nor a proper refusal.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle

from asking import Answer, Prompts, Server, ask, percentile
from servers import thousand

from assistant import opening, release
from assistant.sampling import Sampling
from serve.engines.llama_cpp import SLOTS

CALM, BURST = (20.0, 0.5), (8.0, 15.0)
"""Mean seconds that a state lasts, and questions a second in it."""

ANSWER = Sampling(max_tokens=64, seed=0)


def arrivals(seconds: float, seed: int) -> Iterator[float]:
    """Moments of questions, from 0."""
    chance = random.Random(seed)
    now = 0.0
    for mean, rate in cycle((CALM, BURST)):
        end = now + chance.expovariate(1 / mean)
        while (now := now + chance.expovariate(rate)) < min(end, seconds):
            yield now
        if end >= seconds:
            return
        now = end


def replay(server: Server, moments: Sequence[float]) -> list[Answer]:
    """Ask at these moments, whatever has become of the questions before."""
    prompts = Prompts()
    began = time.perf_counter()
    asked: list[Future[Answer]] = []
    with ThreadPoolExecutor(len(moments)) as pool:
        for moment in moments:
            time.sleep(max(0.0, began + moment - time.perf_counter()))
            asked.append(pool.submit(ask, server, prompts.fresh(), ANSWER))
        return [one.result() for one in asked]


def under_way(answers: Sequence[Answer], moment: float) -> int:
    """How many answers had been asked for and were not complete at this moment."""
    return sum(answer.began < moment < answer.ended for answer in answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = list(arrivals(60 * options.minutes, options.seed))
    place = release.path(release.current())
    with thousand(opening.open_parts(place, release.read(place))[1]) as (server, _):
        asked = replay(server, moments)
    answered = [answer for answer in asked if answer.status == 200 and answer.finish_reason]
    refused = [answer for answer in asked if answer.status == 429 and answer.retry_after]
    at_once = [answer for answer in answered if under_way(answered, answer.began) < SLOTS]
    held = [answer for answer in answered if under_way(answered, answer.began) >= SLOTS]
    print(
        f"{len(asked)} questions in {moments[-1]:.0f} s, {sum(answer.tokens for answer in answered)} tokens of answers.\n"
    )
    print("| questions | how many | first token, s: p50 | p95 | longest |\n|---|---|---|---|---|")
    for what, answers in (("answered at once", at_once), ("held, then answered", held)):
        firsts = [answer.first for answer in answers]
        shares = [f"{percentile(firsts, share):.2f}" if firsts else "" for share in (0.5, 0.95, 1)]
        print(f"| {what} | {len(answers)} | " + " | ".join(shares) + " |")
    print(f"| refused with 429 and `Retry-After` | {len(refused)} | | | |")
    lost = len(asked) - len(answered) - len(refused)
    print(f"| lost | {lost} | | | |")
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
