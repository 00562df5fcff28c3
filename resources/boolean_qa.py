"""UniEval's model: an encoder-decoder (T5) that answers questions about a text with yes or no, as a Dagster resource.

Here belongs one forward pass a question: the first word of the answer is read, nothing is generated. What is asked,
and what the answers mean, stands in `methods.quality.unieval`. The model's weights are not embedded: a checkpoint must
be named (``SLUICE_UNIEVAL``).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import dagster as dg
import numpy as np

from methods.quality.unieval import probability_of_yes
from resources import batching, compute, models
from resources.loaded import once
from resources.token_pass import OK, OUT_OF_MEMORY

WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "pytorch_model*.bin")
"""What a checkpoint on the hub consists of; UniEval's are from the time before safetensors."""


class Answers(NamedTuple):
    """What is known of each question."""

    chance: np.ndarray
    """(n,) float64: P(Yes) / (P(Yes) + P(No)); NaN where the status is not ``ok``."""
    status: list[str]
    """``ok`` or ``out_of_memory``."""
    truncated: np.ndarray
    """(n,) bool: the model saw only the beginning."""


@dataclass(frozen=True)
class _Question:
    tokens: list[int]


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    start: int
    yes: int
    no: int


class UniEval(dg.ConfigurableResource):
    """A checkpoint in the layout of ``MingZhong/unieval-*``. Nothing is loaded before the first question."""

    model: str = ""
    """A folder or hub id (``MingZhong/unieval-dialog``), or ``fake:...`` for a stand-in; empty: there is none."""
    device: str = "auto"
    dtype: str = "float32"
    """The chances crowd near 0 and 1, where the shorter number types tell few apart."""
    max_tokens: int = 1024
    """Questions are cut after this many tokens."""
    batch_tokens: int | None = None
    """Padded tokens in a batch; by default 1,024 on a CPU and 32,768 on a GPU."""

    def identity(self) -> dict[str, Any]:
        """What the answers depend on, for fingerprints; nothing where no model is named. Loads no model."""
        if not self.model:
            return {}
        if models.is_fake(self.model):
            name: dict[str, Any] = {"model": self.model, "content": "1"}
        else:
            name = {**models.identity(models.locate(self.model, WEIGHTS)), "dtype": compute.dtype_name(self.dtype)}
        return {**name, "kind": "boolean_qa", "max_tokens": self.max_tokens}

    def ask(self, questions: Sequence[str]) -> Answers:
        """The chance of yes for each question, whatever the other questions are."""
        if models.is_fake(self.model):
            return self._pretend(questions)
        cut, found = np.zeros(len(questions), dtype=bool), np.full((len(questions), 2), np.nan)
        status = [OK] * len(questions)
        if not questions:
            return Answers(found[:, 0], status, cut)
        loaded = self._load()
        read = loaded.tokenizer(list(questions), truncation=True, max_length=self.max_tokens, verbose=False).encodings
        cut[:] = [bool(one.overflowing) for one in read]
        sequences = [_Question(one.ids) for one in read]
        budget = self.batch_tokens or (1024 if compute.pick_device(self.device) == "cpu" else 32768)
        for at, numbers in enumerate(batching.score_all(partial(_first_word, loaded), sequences, budget)):
            if numbers is None:
                status[at] = OUT_OF_MEMORY
            else:
                found[at] = numbers
        return Answers(probability_of_yes(found[:, 0], found[:, 1]), status, cut)

    def _pretend(self, questions: Sequence[str]) -> Answers:
        """Hashed chances: the same for the same question everywhere, and meaning nothing."""
        digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in questions]
        chance = np.array([int.from_bytes(digest) / 2**64 for digest in digests], dtype=np.float64)
        cut = np.array([len(text.split()) > self.max_tokens for text in questions], dtype=bool)
        return Answers(chance, [OK] * len(questions), cut)

    def _load(self) -> _Loaded:
        key = (self.model, self.device, compute.dtype_name(self.dtype))
        return once(("boolean_qa", *key), lambda: _load(*key))


def _first_word(loaded: _Loaded, batch: Sequence[_Question]) -> list[np.ndarray]:
    """For each question P(Yes) and P(No) over the whole vocabulary, at the decoder's first step."""
    import torch

    width = max(len(one.tokens) for one in batch)
    tokens = torch.full((len(batch), width), int(loaded.tokenizer.pad_token_id or 0), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, one in enumerate(batch):
        tokens[row, : len(one.tokens)] = torch.tensor(one.tokens)
        mask[row, : len(one.tokens)] = 1
    device = loaded.model.device
    start = torch.full((len(batch), 1), loaded.start, dtype=torch.long, device=device)
    with torch.inference_mode():
        out = loaded.model(
            input_ids=tokens.to(device), attention_mask=mask.to(device), decoder_input_ids=start, use_cache=False
        )
        chances = out.logits[:, 0].double().softmax(dim=-1)[:, [loaded.yes, loaded.no]]
    return list(chances.cpu().numpy())


def _load(spec: str, device: str, dtype: str) -> _Loaded:
    folder = str(models.locate(spec, WEIGHTS).path)
    compute.prepare_torch()
    with compute.quiet():
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (ImportError, ValueError) as error:
            raise models.ModelUnavailable(
                f"The tokenizer of {spec!r} cannot be read ({error}). If the folder has a spiece.model and no "
                "tokenizer.json: pip install sentencepiece==0.2.1"
            ) from error
        model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=getattr(torch, dtype), local_files_only=True)
        model = model.to(compute.pick_device(device)).eval()
    words = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("Yes", "No")]
    start = model.config.decoder_start_token_id
    if any(len(ids) != 1 or ids[0] == tokenizer.unk_token_id for ids in words) or start is None:
        raise models.ModelUnavailable(
            f"The model {spec!r} cannot answer with Yes or No by its first token: it is no checkpoint of UniEval."
        )
    return _Loaded(model, tokenizer, int(start), int(words[0][0]), int(words[1][0]))
