"""Texts to unit vectors: the sentence encoder as a Dagster resource.

Here belongs turning many texts into vectors, block by finished block, with bounded memory. Where vectors are kept
(LanceDB) and which text of a row is embedded is said elsewhere. Any sentence-transformers model fits; by default the
MiniLM-L6 that comes from PyPI.

How it is kept fast: texts are taken in the order of their length, each block is tokenised once, and its batches are
cut by counted tokens, so that next to nothing is padding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import numpy as np

from resources import compute, models
from resources.loaded import once

OK = "ok"
EMPTY_TEXT = "empty_text"

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all) after every finished block."""


@dataclass(frozen=True)
class EncodedBlock:
    """A finished block: everything that has to be stored about its texts."""

    indices: np.ndarray
    """(n,) int64: which of the texts these are."""
    vectors: np.ndarray
    """(n, d) float32 of unit length; a row of NaN where there was no text."""
    n_tokens: np.ndarray
    """(n,) int64: tokens that the encoder saw, its special tokens included."""
    truncated: np.ndarray
    """(n,) bool: the text was longer than that."""
    status: list[str]
    """``ok`` or ``empty_text``."""


class Encoder(dg.ConfigurableResource):
    """A sentence encoder. Nothing is loaded before the first text; then once a process."""

    model: str = "embedded:minilm"
    """``embedded:minilm``, a folder, a hub id (``owner/name``), or ``fake:...`` (see `fakes`)."""
    device: str = "auto"
    batch_tokens: int | None = None
    """Padded tokens in a batch; by default 1,024 on a CPU (more falls out of its cache) and 32,768 on a GPU."""
    max_tokens: int | None = None
    """Cut texts after this many tokens; by default where the model does (256 for MiniLM)."""
    normalise: bool = True
    """Scale every vector to unit length (a no-op for models that do so themselves)."""

    def identity(self) -> dict[str, Any]:
        """What the vectors depend on, for fingerprints. Loads no model and imports no torch."""
        if models.is_fake(self.model):
            return self._fake().identity()
        return {
            **models.identity(models.locate(self.model)),
            "kind": "encoder",
            "max_tokens": self.max_tokens,
            "normalise": self.normalise,
        }

    def dimension(self) -> int:
        """The length of a vector."""
        if models.is_fake(self.model):
            return self._fake().dimension()
        return int(self._loaded().get_embedding_dimension())

    def encode(
        self, texts: Sequence[str], on_progress: Progress | None = None, block: int = 2048
    ) -> Iterator[EncodedBlock]:
        """Vectors for all texts, in blocks of at most ``block`` texts, longest first.

        Each block is finished when it is handed out, so that the caller can store it before asking for the next and
        a killed run loses one block at most. Every index comes exactly once. The vectors are those of
        ``SentenceTransformer.encode`` up to rounding (1e-5), whatever the other texts are.
        """
        if models.is_fake(self.model):
            yield from self._fake().encode(texts, on_progress, block)
            return
        lengths = np.fromiter((len(text.strip()) for text in texts), dtype=np.int64, count=len(texts))
        order = np.argsort(-lengths, kind="stable")
        for start in range(0, len(order), block):
            indices = order[start : start + block]
            yield self._block(texts, indices, filled=lengths[indices] > 0)
            if on_progress is not None:
                on_progress(start + len(indices), len(order))

    def _fake(self) -> "Encoder":
        from resources.fakes import FakeEncoder  # it is built on this class

        return FakeEncoder(model=self.model, max_tokens=self.max_tokens)

    def _block(self, texts: Sequence[str], indices: np.ndarray, filled: np.ndarray) -> EncodedBlock:
        vectors = np.full((len(indices), self.dimension()), np.nan, dtype=np.float32)
        n_tokens = np.zeros(len(indices), dtype=np.int64)
        truncated = np.zeros(len(indices), dtype=np.bool_)
        if filled.any():
            block = [texts[i] for i in indices[filled]]
            vectors[filled], n_tokens[filled], truncated[filled] = self._embed(block)
        status = [OK if has_text else EMPTY_TEXT for has_text in filled]
        return EncodedBlock(indices.astype(np.int64), vectors, n_tokens, truncated, status)

    def _embed(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vectors, token counts and whether each text was cut, for texts that are not empty."""
        import torch

        model = self._loaded()
        prompt = model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None
        # One tokeniser call for the block, by the model's own rules (lower case, prompts, truncation).
        features = model.preprocess(texts, prompt=prompt)
        mask = features["attention_mask"]
        counts = mask.sum(dim=1).numpy()
        vectors = np.empty((len(texts), self.dimension()), dtype=np.float32)
        order = np.argsort(-counts, kind="stable")
        budget = self.batch_tokens or (1024 if model.device.type == "cpu" else 32768)
        start = 0
        with torch.inference_mode():
            while start < len(order):
                rows = order[start : start + max(1, budget // int(counts[order[start]]))]
                vectors[rows] = self._forward(model, _rows(features, rows, len(texts), model))
                start += len(rows)
        return vectors, counts, _cut(model, texts, counts, prompt)

    def _forward(self, model: Any, features: dict[str, Any]) -> np.ndarray:
        """One batch; halved as often as needed if it does not fit into memory."""
        import torch

        try:
            on_device = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in features.items()}
            found = model(on_device)["sentence_embedding"].float()
            if self.normalise:
                found = torch.nn.functional.normalize(found, p=2, dim=1)
            return found.cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            n = len(features["input_ids"])
            if n < 2 or not compute.is_out_of_memory(error):
                raise
        compute.free_memory()
        halves = [np.arange(n // 2), np.arange(n // 2, n)]
        return np.concatenate([self._forward(model, _rows(features, half, n, model)) for half in halves])

    def _loaded(self) -> Any:
        key = (self.model, self.device, self.max_tokens)
        return once(("encoder", *key), lambda: _load(*key))


def _load(spec: str, device: str, max_tokens: int | None) -> Any:
    located = models.locate(spec)
    compute.prepare_torch()
    with compute.quiet():
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(located.path), device=compute.pick_device(device), local_files_only=True)
    if max_tokens is not None:
        model.max_seq_length = min(max_tokens, model.max_seq_length or max_tokens)
    return model.eval()


def _rows(features: dict[str, Any], rows: np.ndarray, height: int, model: Any) -> dict[str, Any]:
    """These rows of a tokenised block, without the columns that are padding for all of them."""
    import torch

    chosen = torch.from_numpy(rows)
    width = int(features["attention_mask"].shape[1])
    keep = int(features["attention_mask"][chosen].sum(dim=1).max())
    left = getattr(model.tokenizer, "padding_side", "right") == "left"
    columns = slice(width - keep, width) if left else slice(0, keep)
    batch = {}
    for name, value in features.items():
        if hasattr(value, "shape") and value.ndim >= 1 and value.shape[0] == height:
            value = value[chosen]
            if value.ndim == 2 and value.shape[1] == width:
                value = value[:, columns]
        batch[name] = value
    return batch


def _cut(model: Any, texts: list[str], counts: np.ndarray, prompt: str | None) -> np.ndarray:
    """Which texts have more tokens than the encoder saw; only those that fill it can have."""
    cut = np.zeros(len(texts), dtype=np.bool_)
    limit = model.max_seq_length
    full = np.flatnonzero(counts >= limit) if limit else np.empty(0, dtype=np.int64)
    if len(full):
        whole = model.tokenizer([(prompt or "") + texts[i].strip() for i in full], truncation=False, verbose=False)
        cut[full] = [len(ids) > limit for ids in whole["input_ids"]]
    return cut
