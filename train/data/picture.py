"""A data set at a glance: a map of its prompts and histograms of the lengths of its answers."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from assistant.files import atomic_path
from train.data.stats import Set


def flat_map(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points in the plane, (n, 2), near to one another where the vectors (n, d) are: t-SNE on cosines (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    if len(vectors) < 4:
        return vectors[:, :2]
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    found: NDArray[np.float32] = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0).fit_transform(
        vectors
    )
    return found


def draw(sets: Sequence[Set], target: Path) -> None:
    """Write a PNG: each prompt as a point coloured by its file; below it, for each file with answers, their lengths in words."""
    entries = [entry for data in sets for entry in data.entries]
    # Two sets may have files of the same name.
    label = [f"{data.name}/{entry.file}" if len(sets) > 1 else entry.file for data in sets for entry in data.entries]
    files = list(dict.fromkeys(label))
    points = flat_map(np.concatenate([data.vectors for data in sets]))
    colours = dict(zip(files, plt.get_cmap("tab20")(np.linspace(0, 1, max(2, len(files)))), strict=False))
    lengths = {
        file: [
            len(a.split()) for entry, name in zip(entries, label, strict=True) if name == file for a in entry.answers
        ]
        for file in files
    }
    answered = [file for file in files if lengths[file]]
    rows = -(-len(answered) // 4)
    figure = plt.figure(figsize=(12, 8 + 1.9 * rows), layout="constrained")
    grid = figure.add_gridspec(1 + rows, 4, height_ratios=[8] + [1.9] * rows)
    axes = figure.add_subplot(grid[0, :])
    for file in files:
        here = points[[name == file for name in label]]
        axes.scatter(here[:, 0], here[:, 1], s=14, color=colours[file], label=f"{file} ({len(here)})", alpha=0.8)
    axes.set(
        xticks=[], yticks=[], title="What is asked: near points mean nearly the same (t-SNE of sentence embeddings)"
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    most = max((max(found) for found in lengths.values() if found), default=1)
    for number, file in enumerate(answered):
        below = figure.add_subplot(grid[1 + number // 4, number % 4])
        below.hist(lengths[file], bins=np.arange(0, most + 20, 20).tolist(), color=colours[file])
        below.set_title(f"{file}: words in an answer", fontsize=9)
        below.tick_params(labelsize=8)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
