"""How fast `thousand serve` answers beside llama.cpp's own server and `transformers serve`.

    python bench/serving.py [--rounds 5] [--quick]

Ours serves the current release; llama.cpp's server has the base that the release was made from, with its whole
vocabulary, as many slots and threads, and its own defaults otherwise; `transformers serve` has the same base in
safetensors. All get the same questions as the same tokens, over HTTP and streamed. They take turns, question by
question, and only one computes at a time, so that what else the machine does falls on all alike. Ours answers first and
ends where it ends; llama.cpp's server is then made to write exactly as many tokens (`ignore_eos`). No first token that is
timed is of a question that the server knows, where it does not say so. Ratios are medians over pairs of answers to the
same question. Prints Markdown tables.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import median

from asking import Answer, Prompts, Server, ask, ask_at_once, percentile
from servers import THREADS, stock, thousand, transformers

from assistant import base_model, opening, release
from assistant.dialogue import Message, read_dialogues
from assistant.sampling import Sampling
from assistant.settings import bundled
from assistant.template import Template
from serve.engines.llama_cpp import SLOTS

GREEDY = Sampling(temperature=0, repetition_penalty=1, seed=0)
SAMPLED = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.1, seed=0)
HISTORY = 2000
"""Tokens of the conversation whose next turn is timed."""


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def limited(sampling: Sampling, tokens: int) -> Sampling:
    return sampling.model_copy(update={"max_tokens": tokens})


def milliseconds(values: Sequence[float], share: float = 0.5) -> str:
    return f"{1000 * percentile(values, share):.0f}"


def answers(server: Server, prompts: Prompts, sampling: Sampling) -> Iterator[tuple[list[Message], Answer]]:
    """Fresh questions, and our answers of at least half the longest length."""
    while True:
        question = prompts.fresh()
        answer = ask(server, question, sampling)
        if answer.tokens * 2 >= sampling.max_tokens:
            yield question, answer


def decode(
    ours: Server, plain: Server, own: Server, torch: Server | None, prompts: Prompts, pairs: int, tokens: int
) -> None:
    """Tokens a second after the first, one answer at a time."""
    rates: dict[tuple[str, str], list[float]] = {}
    streams = {mode: answers(ours, prompts, limited(kind, tokens)) for mode, kind in MODES.items()}
    for number in range(pairs):
        for mode, stream in streams.items():
            question, answer = next(stream)
            rates.setdefault((mode, ours.name), []).append(answer.rate)
            others = [plain, own] if mode == SAMPLE else [plain]
            for other in others:
                same = ask(other, question, limited(MODES[mode], answer.tokens))
                rates.setdefault((mode, other.name), []).append(same.rate)
            if torch is not None and number < 2:
                few = ask(torch, question, limited(MODES[mode], 16))
                rates.setdefault((mode, torch.name), []).append(few.rate)
    rows = []
    for mode in MODES:
        mine = rates[mode, ours.name]
        row: list[object] = [mode, f"{median(mine):.0f}"]
        for other in (plain, own, torch):
            theirs = rates.get((mode, other.name)) if other else None
            row += [f"{median(theirs):.0f}", f"{ratio(mine, theirs):.2f}"] if theirs else ["", ""]
        rows.append(row)
    table(["tokens/s", "thousand", "llama.cpp", "times", "with its top_k 40", "times", "transformers", "times"], rows)
    print(f"\nSampling against greedy, here: {ratio(rates[SAMPLE, ours.name], rates['greedy', ours.name]):.2f}")


SAMPLE = "top_p 0.9, penalty 1.1"
MODES = {"greedy": GREEDY, SAMPLE: SAMPLED}


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the pairs' ratios; a server that was asked less often counts with the pairs it has."""
    return median(one / other for one, other in zip(mine, theirs, strict=False))


def conversation(template: Template, number: int) -> list[Message]:
    """A history of about HISTORY tokens and a question, not the same for two numbers."""
    messages: list[Message] = []
    for dialogue in read_dialogues([bundled("dialogues") / "writing.jsonl"])[number * 15 :]:
        if dialogue.messages[0].role == "user" and len(dialogue.messages) == 2:
            messages += dialogue.messages
        if len(template.prompt([*messages, QUESTION])) > HISTORY:
            break
    return [*messages, QUESTION]


QUESTION = Message(role="user", content="Which of all these things would you look at first, and why?")


def reading(servers: Sequence[Server], template: Template, rounds: int) -> None:
    """Time to the first token of a long conversation, unknown and then with a turn more."""
    rows = []
    found: dict[str, list[tuple[Answer, Answer]]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers:
            messages = conversation(template, number)
            cold = ask(server, messages, limited(GREEDY, 24))
            said = cold.text if cold.text.strip() else "I cannot say."
            turn = [Message(role="assistant", content=said), Message(role="user", content="Why do you say that?")]
            found[server.name].append((cold, ask(server, [*messages, *turn], limited(GREEDY, 4))))
    for server in servers:
        colds, warms = zip(*found[server.name], strict=True)
        cached = median(one.cached_tokens / one.prompt_tokens for one in warms)
        rows.append(
            [
                server.name,
                f"{median(one.prompt_tokens / one.first for one in colds):.0f}",
                f"{median(one.first for one in colds):.2f} s",
                f"{milliseconds([one.first for one in warms])} ms",
                f"{median(one.prompt_tokens - one.cached_tokens for one in warms):.0f}, {cached:.0%} cached",
            ]
        )
    table(["server", "prompt tokens/s", "first token, cold", "first token, next turn", "tokens read then"], rows)


def streams(ours: Server, other: Server, prompts: Prompts, rounds: int, tokens: int, widths: Sequence[int]) -> None:
    """Several answers at once: throughput, and what each asker waits."""
    rows = []
    for mode, sampling in MODES.items():
        for width in widths:
            runs: dict[str, list[list[Answer]]] = {ours.name: [], other.name: []}
            for _ in range(rounds):
                questions = [prompts.fresh() for _ in range(width)]
                limit = limited(sampling, tokens)
                mine = ask_at_once(ours, [(question, limit) for question in questions])
                runs[ours.name].append(mine)
                same = [limited(sampling, answer.tokens) for answer in mine]
                runs[other.name].append(ask_at_once(other, list(zip(questions, same, strict=True))))
            through = {name: [throughput(run) for run in found] for name, found in runs.items()}
            for name, found in runs.items():
                firsts = [answer.first for run in found for answer in run]
                gaps = [gap for run in found for answer in run for gap in answer.gaps]
                rows.append(
                    [
                        f"{width}, {mode}",
                        name,
                        f"{median(through[name]):.0f}",
                        f"{ratio(through[name], through[other.name]):.2f}",
                        f"{milliseconds(firsts)}, {milliseconds(firsts, 0.95)}",
                        f"{milliseconds(gaps)}, {milliseconds(gaps, 0.95)}",
                    ]
                )
    table(
        ["streams", "server", "tokens/s", "times", "first token, ms (p50, p95)", "between tokens, ms (p50, p95)"], rows
    )


def throughput(run: Sequence[Answer]) -> float:
    """Tokens a second from the first question to the last token."""
    began = min(answer.began for answer in run)
    return sum(answer.tokens for answer in run) / (max(answer.ended for answer in run) - began)


def layer(ours: Server, engine: Server, prompts: Prompts, pairs: int, tokens: int) -> None:
    """What our HTTP layer costs: the same llama.cpp asked through it and directly, first the one, then the other."""
    rates, firsts = {}, {}
    for server in (ours, engine):
        rates[server.name], firsts[server.name] = [], []
    for number in range(pairs):
        question, _ = next(answers(ours, prompts, limited(GREEDY, tokens)))
        for server in (ours, engine)[:: 1 if number % 2 else -1]:
            answer = ask(server, question, limited(GREEDY, tokens))
            rates[server.name].append(answer.rate)
            firsts[server.name].append(answer.first)
    cost = 1 - ratio(rates[ours.name], rates[engine.name])
    later = median(mine - its for mine, its in zip(firsts[ours.name], firsts[engine.name], strict=True))
    rows = [[name, f"{median(rates[name]):.0f}", milliseconds(firsts[name])] for name in rates]
    table(["asked", "tokens/s", "first token, ms (prompt cached)"], rows)
    print(f"\nOur layer costs {cost:.1%} of the tokens a second, and {1000 * later:.1f} ms before the first.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a few tokens of each, without transformers: does it run?")
    options = parser.parse_args()
    rounds, tokens, widths = (1, 16, [1, 2]) if options.quick else (options.rounds, 96, [1, 4, 8])
    place = release.path(release.current())
    record = release.read(place)
    base, full = base_model.resolve(record.base), opening.open_template(place, record)
    prompts = Prompts()
    with ExitStack() as stack:
        ours, engine = stack.enter_context(thousand(opening.open_parts(place, record)[1]))
        plain, own = stack.enter_context(stock(base, full, SLOTS))
        torch = None if options.quick else stack.enter_context(transformers(base, full))
        print(f"Release {record.name}, base {base.name}, {THREADS} threads, {rounds} rounds.")
        for server in (ours, plain):
            ask(server, prompts.fresh(), limited(GREEDY, 8))
        decode(ours, plain, own, torch, prompts, 4 * rounds, tokens)
        reading([ours, plain], full, rounds)
        streams(ours, plain, prompts, rounds, tokens, widths)
        layer(ours, engine, prompts, 6 * rounds, tokens)
        running = [server for server in (ours, plain, torch) if server]
        table(["server", "memory, MB"], [[server.name, f"{server.megabytes():.0f}"] for server in running])


if __name__ == "__main__":
    main()
