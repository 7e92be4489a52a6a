"""Which rows of the embedded base's vocabulary English use needs; writes the choice into data/vocabulary.

    pip install wordfreq
    python bench/choose_rows.py 76000 FOLDER...

Words come from wordfreq (Speer 2022; 320,000 English words and names with their frequencies), everything else from the
dialogues that come along and from the text and code in the folders: programs, manuals, web pages. Each token's share of
what is written in English is estimated from them, and the likeliest are kept, with the pieces they are built from, until
there are as many as asked for. Some are kept in any case: see `in_any_case`.
"""

import argparse
import html
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import wordfreq
from matplotlib._mathtext_data import tex2uni
from tokenizers import Tokenizer

from assistant import base_model
from assistant.dialogue import data_files, read_dialogues
from assistant.files import atomic_path
from assistant.merges import Merges, Rows
from assistant.settings import bundled
from assistant.vocabulary import always_kept, fingerprint

KINDS = {
    "prose": (0.25, [".md", ".rst", ".txt", ".html"]),
    "Python": (0.03, [".py"]),
    "mathematics": (0.05, [".py", ".md", ".rst"]),
    "JavaScript": (0.02, [".js", ".ts"]),
    "style sheets": (0.01, [".css"]),
    "C": (0.02, [".c", ".h", ".cpp"]),
    "SQL": (0.01, [".sql"]),
}
"""Kind of text to its share of what is written, roughly, and its files; words have the rest."""

SPELLINGS = {" {0}": 0.72, " {1}": 0.15, "{0}": 0.04, "{1}": 0.04, " {2}": 0.04, "{2}": 0.01}
"""How often, roughly, a word is written small, with a capital, in capitals, after a space and without one."""

LATEX = re.compile(r"\\[a-zA-Z]{3,}|:math:|\$[^$]+\$")
"""A line of mathematics in LaTeX, as manuals inside programs have it."""

MOST_OF_A_KIND, MOST_OF_A_FILE = 12_000_000, 60_000
"""Characters read."""


def counted(tokenizer: Tokenizer, texts: Sequence[str], weights: Sequence[float] | None = None) -> Counter[int]:
    """How often each token occurs in the texts, each counted with its weight."""
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), 512):
        for offset, encoded in enumerate(tokenizer.encode_batch(texts[start : start + 512], add_special_tokens=False)):
            for row in encoded.ids:
                counts[row] += weights[start + offset] if weights else 1
    return counts


def words(tokenizer: Tokenizer) -> Counter[int]:
    frequencies = wordfreq.get_frequency_dict("en", "large")
    counts: Counter[int] = Counter()
    for spelling, share in SPELLINGS.items():
        texts = [spelling.format(word, word.capitalize(), word.upper()) for word in frequencies]
        counts += counted(tokenizer, texts, [frequency * share for frequency in frequencies.values()])
    return counts


def read_some(kind: str, folders: Sequence[Path], suffixes: Iterable[str]) -> Iterator[str]:
    """Lines from the beginnings of files in the folders, in a fixed random order, up to a limit of all of them together."""
    files = sorted(file for folder in folders for suffix in suffixes for file in folder.rglob(f"*{suffix}"))
    random.Random(0).shuffle(files)
    left = MOST_OF_A_KIND
    for file in files:
        text = file.read_text(encoding="utf-8", errors="ignore") if file.is_file() else ""
        if file.suffix == ".html":
            text = html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", "", text, flags=re.DOTALL))
        lines = text[:MOST_OF_A_FILE].splitlines(keepends=True)
        for line in lines:
            if kind != "mathematics" or LATEX.search(line):
                left -= len(line)
                yield line
        if left < 0:
            return


def is_english(text: str) -> bool:
    """Whether a token could stand in English text: Latin letters, or a single sign of another alphabet (π, Ω)."""
    foreign = [letter for letter in text if letter.isalpha() and not unicodedata.name(letter, "").startswith("LATIN")]
    return not foreign or (len(text.strip("▁")) == 1 and "GREEK" in unicodedata.name(foreign[0], ""))


def in_any_case(tokenizer: Tokenizer, folder: Path) -> set[int]:
    """What the template needs, every piece of the training data, LaTeX commands, signs and runs of signs.

    Signs are Latin and Greek letters, digits, punctuation and symbols (arrows, mathematics, emoji); runs are of up to
    three ASCII signs that are neither letters nor digits.
    """
    dialogues = read_dialogues(data_files([bundled("dialogues")]))
    texts = [message.content for dialogue in dialogues for message in dialogue.messages]
    commands = [spelling for command in tex2uni for spelling in (f"\\{command}", f"$\\{command}", f" \\{command}")]
    rows = {*always_kept(folder), *counted(tokenizer, texts), *counted(tokenizer, commands)}
    for text, row in tokenizer.get_vocab(with_added_tokens=False).items():
        sign = text.removeprefix("▁")
        single = len(sign) == 1 and is_english(text) and unicodedata.category(sign)[0] in "LNPS"
        if single or re.fullmatch(r"▁*[!-/:-@\[-`{-~]{1,3}", text):
            rows.add(row)
    return rows


def likeliest(tokenizer: Tokenizer, folders: Sequence[Path]) -> list[int]:
    """All tokens that occur, the one with the largest share first."""
    share: Counter[int] = Counter()
    sources = {"words": (1 - sum(weight for weight, _ in KINDS.values()), words(tokenizer))}
    for kind, (weight, suffixes) in KINDS.items():
        sources[kind] = (weight, counted(tokenizer, list(read_some(kind, folders, suffixes))))
    for kind, (weight, counts) in sources.items():
        print(f"{kind}: {len(counts):,} tokens of the vocabulary occur")
        for row, count in counts.items():
            share[row] += weight * count / counts.total()
    return [row for row, _ in share.most_common() if is_english(tokenizer.id_to_token(row))]


def choose(tokenizer: Tokenizer, folder: Path, folders: Sequence[Path], size: int) -> Rows:
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    merges = Merges(state)
    rows = set(merges.closed(in_any_case(tokenizer, folder)).tolist())
    print(f"{len(rows):,} rows are kept in any case")
    for row in likeliest(tokenizer, folders):
        if len(rows) >= size:
            break
        rows |= merges.needed(row)
    return np.array(sorted(rows), dtype=np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--target", type=Path, default=bundled("vocabulary"))
    arguments = parser.parse_args()
    folder = base_model.resolve().folder
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = choose(tokenizer, folder, arguments.folders, arguments.rows)
    state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    chosen = np.zeros(tokenizer.get_vocab_size(), dtype=np.uint8)
    chosen[rows] = 1
    target = arguments.target / f"{fingerprint(state)[:16]}.npy"
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.save(file, np.packbits(chosen), allow_pickle=False)
    print(f"{len(rows):,} rows: {target}")


if __name__ == "__main__":
    main()
