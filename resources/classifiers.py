"""Models with a head that classifies two texts: what reward models and models of inference have in common.

Here belongs loading such a model so that nothing of it is random, and writing two texts down for it. What its outputs
mean stands with those who ask it (`reward_model`, `nli`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from resources import compute, models


@dataclass(frozen=True)
class Written:
    """Token ids of a pair, and for models that tell the two texts apart, which token is whose."""

    tokens: list[int]
    types: list[int] = field(default_factory=list)


def load(located: models.Located, spec: str, dtype: str, what: str, advice: str = "") -> tuple[Any, Any]:
    """The model and its tokenizer; ``what`` it is to be, and ``advice``, stand in the error where it is not that."""
    folder = str(located.path)
    compute.prepare_torch()
    with compute.quiet():
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        try:
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True, output_loading_info=True
            )
        except (ValueError, OSError) as error:
            raise models.ModelUnavailable(
                f"The {what} {spec!r} cannot be loaded as a sequence classification model: {error}"
            ) from error
    if missing := sorted(info["missing_keys"]):
        raise models.ModelUnavailable(
            f"{spec!r} is no {what}: its files lack {', '.join(missing[:4])}, which would be random numbers. {advice}"
        )
    return model, tokenizer


def stored_dtype(asked: str, located: models.Located) -> str:
    """The number type: the one asked for, or that of the stored weights."""
    if asked != "auto":
        return compute.dtype_name(asked)
    try:
        config = json.loads((located.path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise models.ModelUnavailable(
            f"{located.path} holds no model that classifies: expected config.json and weights ({error})."
        ) from error
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return stored if stored in compute.DTYPES else "float32"


def longest(model: Any, tokenizer: Any) -> int:
    """The longest sequence that the model has places for."""
    limits = [int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)]
    limits.append(int(min(tokenizer.model_max_length, 1 << 30)))
    for name, module in model.named_modules():
        # Some (RoBERTa's kin) count places from behind the padding token's number.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    return min(limit for limit in limits if limit > 0)


def tokenised(tokenizer: Any, pairs: Sequence[tuple[str, str]], limit: int | None) -> list[Written]:
    """The pairs by the tokenizer's own rules, cut where there is a limit."""
    if not pairs:
        return []
    cut = {"truncation": "longest_first", "max_length": limit} if limit else {"truncation": False}
    questions, answers = [question for question, _ in pairs], [answer for _, answer in pairs]
    found = tokenizer(questions, answers, return_attention_mask=False, verbose=False, **cut)
    types = found.get("token_type_ids") or [[]] * len(pairs)
    return [Written(ids, kinds) for ids, kinds in zip(found["input_ids"], types, strict=True)]


def fitted(tokenizer: Any, pairs: Sequence[tuple[str, str]], limit: int) -> tuple[list[Written], list[bool]]:
    """The pairs as tokens, none longer than the limit, and which of them had to be cut."""
    whole = tokenised(tokenizer, pairs, None)
    cut = [len(one.tokens) > limit for one in whole]
    long = [at for at, is_cut in enumerate(cut) if is_cut]
    for at, one in zip(long, tokenised(tokenizer, [pairs[at] for at in long], limit), strict=True):
        whole[at] = one
    return whole, cut
