"""Whether one text contradicts another: a model of natural language inference, as a Dagster resource.

Here belongs loading a classifier with the three labels entailment, neutral and contradiction, and one probability a
pair. What contradictions mean stands in `methods.quality.bsdetector`. The weights are not embedded: a checkpoint must
be named (``SLUICE_NLI``).
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import dagster as dg
import numpy as np

from resources import batching, classifiers, compute, models
from resources.loaded import once
from resources.token_pass import EMPTY_RESPONSE, OK, OUT_OF_MEMORY, TRUNCATED

LABELS = ("entailment", "neutral", "contradiction")
_NEEDS = ("*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin")
_STAND_IN = "1"


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    limit: int
    contradiction: int
    """Which output it is."""


class NLI(dg.ConfigurableResource):
    """A model of natural language inference. Nothing is loaded before the first pair; then once a process."""

    model: str = ""
    """A folder, a hub id (``owner/name``), ``fake:...`` (a stand-in), or nothing: none is set."""
    device: str = "auto"
    dtype: str = "auto"
    """``auto``: the precision in which the weights are stored; else ``float32``, ``bfloat16`` or ``float16``."""
    max_tokens: int = 512
    """Of longer pairs the longer text loses its end, with the status ``truncated``."""
    batch_tokens: int | None = None
    """Padded tokens in a batch; by default 1,024 on a CPU and 32,768 on a GPU."""

    def identity(self) -> dict[str, Any]:
        """What the probabilities depend on, for fingerprints; nothing where no model is set. Loads no model."""
        if not self.model:
            return {}
        common = {"kind": "nli", "max_tokens": self.max_tokens}
        if models.is_fake(self.model):
            return {"model": self.model, "content": _STAND_IN, **common}
        located = models.locate(self.model, _NEEDS)
        return {**models.identity(located), **common, "dtype": classifiers.stored_dtype(self.dtype, located)}

    def contradiction(self, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, list[str]]:
        """P(contradiction) of each (premise, hypothesis), float64, and a status a pair.

        The softmax is over the three labels. NaN where the status is ``empty_response`` (one of the texts says nothing)
        or ``out_of_memory``; with ``truncated`` it is that of the beginnings.
        """
        if not self.model:
            raise ValueError("no model of natural language inference is set")
        found, status = np.full(len(pairs), np.nan), [EMPTY_RESPONSE] * len(pairs)
        asked = [at for at, (premise, hypothesis) in enumerate(pairs) if premise.strip() and hypothesis.strip()]
        if models.is_fake(self.model):
            for at in asked:
                found[at], status[at] = stand_in(*pairs[at]), OK
            return found, status
        if not asked:
            return found, status
        loaded = self._load()
        written, cut = self._written(loaded, [pairs[at] for at in asked])
        budget = self.batch_tokens or (1024 if compute.pick_device(self.device) == "cpu" else 32768)
        chances = batching.score_all(partial(_forward, loaded), written, budget)
        for at, chance, short in zip(asked, chances, cut, strict=True):
            status[at] = OUT_OF_MEMORY if chance is None else TRUNCATED if short else OK
            found[at] = np.nan if chance is None else chance
        return found, status

    def _written(self, loaded: _Loaded, pairs: list[tuple[str, str]]) -> tuple[list[classifiers.Written], list[bool]]:
        """Each pair as tokens, and whether it had to be cut."""
        limit = min(self.max_tokens, loaded.limit)
        return classifiers.fitted(loaded.tokenizer, pairs, limit)

    def _load(self) -> _Loaded:
        located = models.locate(self.model, _NEEDS)
        key = (self.model, self.device, classifiers.stored_dtype(self.dtype, located))
        return once(("nli", *key), lambda: _load(located, *key))


def _load(located: models.Located, spec: str, device: str, dtype: str) -> _Loaded:
    model, tokenizer = classifiers.load(located, spec, dtype, "NLI model")
    if tokenizer.pad_token_id is None and model.config.pad_token_id is None:
        raise models.ModelUnavailable(f"The tokenizer of {spec!r} has no token for padding.")
    place = label_place(model.config.id2label, spec)
    model = model.to(compute.pick_device(device)).eval()
    return _Loaded(model, tokenizer, classifiers.longest(model, tokenizer), place)


def label_place(names: dict[int, str], spec: str) -> int:
    """Which of a model's outputs is contradiction, by the names of its labels."""
    known = {int(place): re.sub(r"[^a-z]+", "", str(name).lower()) for place, name in names.items()}
    if sorted(known.values()) != sorted(LABELS):
        raise models.ModelUnavailable(
            f"{spec!r} has the labels {', '.join(str(name) for name in names.values())}; a model of natural language "
            f"inference has {', '.join(LABELS)} (id2label of its config.json)."
        )
    return next(place for place, name in known.items() if name == "contradiction")


def _forward(loaded: _Loaded, batch: Sequence[classifiers.Written]) -> list[float]:
    """One forward pass; a probability each. Padding stands on the right and is masked."""
    import torch

    width = max(len(one.tokens) for one in batch)
    pad = loaded.tokenizer.pad_token_id
    pad = loaded.model.config.pad_token_id if pad is None else pad
    ids = torch.full((len(batch), width), pad, dtype=torch.long)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, one in enumerate(batch):
        ids[row, : len(one.tokens)] = torch.tensor(one.tokens)
        types[row, : len(one.types)] = torch.tensor(one.types, dtype=torch.long)
        mask[row, : len(one.tokens)] = 1
    given = {"input_ids": ids, "attention_mask": mask, **({"token_type_ids": types} if batch[0].types else {})}
    with torch.inference_mode():
        logits = loaded.model(**{name: values.to(loaded.model.device) for name, values in given.items()}).logits
    return logits.double().softmax(dim=1)[:, loaded.contradiction].cpu().tolist()


def stand_in(premise: str, hypothesis: str) -> float:
    """The share of the hypothesis' words that the premise does not have: it means nothing, and is for tests."""
    has, said = (set(re.findall(r"\w+|[^\w\s]", text.lower())) for text in (premise, hypothesis))
    return len(said - has) / max(1, len(said))
