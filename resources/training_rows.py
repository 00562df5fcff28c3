"""What a causal language model is trained on: rows as token ids, which of them count, and in which batches they come.

Here belongs writing rows down for a training, with the template and the tokens of the pass that scores them
(`causal_lm`), so that what was trained is what is measured; and the loss of a batch. The loop around it, checkpoints
and the folder of the trained model stand in `tuning`.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from pydantic import PrivateAttr

from resources import batching, causal_lm, token_pass
from resources.causal_lm import CausalLM

Conversation = tuple[str, list[dict[str, str]]]
"""A row's id and its messages."""

_BLOCK = 4096  # rows written down at a time: the lists of a plan take ten times the room of what is kept of it


@dataclass(frozen=True)
class TrainingRow:
    """A conversation as token ids, and the places (in rising order, never the first) whose tokens are learned."""

    tokens: np.ndarray
    learned: np.ndarray


def conversations(rows: pl.DataFrame) -> list[Conversation]:
    """The rows by their ids: the same set of rows trains the same model, in whatever order it is given."""
    found = [(row["row_id"], causal_lm.messages_of(row)) for row in rows.iter_rows(named=True)]
    return sorted(found, key=lambda row: (row[0], json.dumps(row[1])))


def content_hash(found: Sequence[Conversation]) -> str:
    """blake2b-128 of the ids and the contents of conversations, in their order."""
    total = hashlib.blake2b(digest_size=16)
    for row_id, messages in found:
        line = [row_id, [[message["role"], message["content"]] for message in messages]]
        total.update(json.dumps(line).encode() + b"\n")
    return total.hexdigest()


def has_response(messages: Sequence[dict[str, str]]) -> bool:
    """Whether an assistant says anything."""
    return any(message["role"] == "assistant" and message["content"].strip() for message in messages)


class _Writer(CausalLM):
    """The pass's own template code over a tokenizer that is already here, without loading the pass's model."""

    _given: Any = PrivateAttr(default=None)

    def load(self) -> Any:
        return self._given


def training_rows(
    model: CausalLM, loaded: Any, found: Sequence[Conversation], max_tokens: int
) -> tuple[list[TrainingRow], dict[str, int]]:
    """The rows as tokens, and how many were left out for which status.

    Learned are the tokens of all assistant turns and the end-of-text token behind the last, so that the model learns
    to stop (a tokenizer without such a token, and a conversation that is cut or fills ``max_tokens``, have none).
    ``loaded`` is what `causal_lm.load` returns: the tokenizer, the longest context, the mark that opens a text.
    """
    limit = min(max_tokens, loaded.limit)
    writer = _Writer(model=model.model, max_tokens=limit, template=model.template)
    writer._given = loaded
    end = loaded.tokenizer.eos_token_id
    made: list[TrainingRow] = []
    left_out: Counter[str] = Counter()
    for start in range(0, len(found), _BLOCK):
        part = found[start : start + _BLOCK]
        for plan in writer.plans([row_id for row_id, _ in part], [messages for _, messages in part]):
            if plan.conditional is None:
                left_out[plan.status] += 1
                continue
            tokens, spans = plan.conditional.tokens, plan.conditional.spans
            if plan.status == token_pass.OK and end is not None and len(tokens) < limit:
                tokens, spans = [*tokens, end], [*spans, (len(tokens), len(tokens) + 1)]
            learned = np.concatenate([np.arange(a, b, dtype=np.int32) for a, b in spans])
            made.append(TrainingRow(np.array(tokens, dtype=np.int32), learned))
    return made, dict(sorted(left_out.items()))


def steps_of(n_rows: int, batch_rows: int, epochs: float, seed: int) -> list[np.ndarray]:
    """The rows of every step: each epoch is shuffled anew and cut; its last batch may be smaller.

    A part of an epoch is a part of its steps, rounded up, and at least one.
    """
    wanted = max(1, math.ceil(epochs * math.ceil(n_rows / batch_rows) - 1e-9))
    rng = np.random.default_rng(seed)
    made: list[np.ndarray] = []
    while len(made) < wanted:
        order = rng.permutation(n_rows)
        made += [order[start : start + batch_rows] for start in range(0, n_rows, batch_rows)]
    return made[:wanted]


def backward(causal: Any, rows: Sequence[TrainingRow], budget: int, mixed: bool = False) -> float:
    """The mean cross-entropy over all learned tokens of a batch, whose gradients are added to the parameters'.

    Equation: ``L = -(1/n) sum_i ln p(t_i | t_<i)`` over the n learned tokens of all rows together (not a mean of the
    rows' means). The rows pass in parts of like length and at most ``budget`` padded tokens, each divided by the n of
    the whole batch, so that the parts change nothing but memory. ``mixed``: in bfloat16 wherever that is safe.
    """
    total = sum(len(row.learned) for row in rows)
    lost = 0.0
    for part in batching.batches([len(row.tokens) for row in rows], budget):
        loss = _summed(causal, [rows[i] for i in part], mixed) / total
        loss.backward()
        lost += float(loss.detach())
    return lost


def _summed(causal: Any, rows: Sequence[TrainingRow], mixed: bool) -> Any:
    """The summed cross-entropy of rows in one forward pass; only learned places are spread over the vocabulary."""
    import torch

    width = max(len(row.tokens) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    for at, row in enumerate(rows):
        ids[at, : len(row.tokens)] = torch.from_numpy(row.tokens)
    which = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row.learned) for row in rows]))
    where = torch.from_numpy(np.concatenate([row.learned for row in rows])).long()
    device = causal.device
    labels = ids[which, where].to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed):
        hidden = token_pass.trunk(causal, ids.to(device))[which.to(device), (where - 1).to(device)]
        scores = _scores(causal, hidden)
    return torch.nn.functional.cross_entropy(scores.float(), labels, reduction="sum")


def _scores(causal: Any, hidden: Any) -> Any:
    """As `token_pass.Head`, which was checked against this model when it was loaded, but never in place: gradients
    flow through it."""
    config = causal.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    scores = causal.get_output_embeddings()(hidden)
    if scale != 1.0:
        scores = scores.float() * scale
    return (scores.float() / softcap).tanh() * softcap if softcap else scores
