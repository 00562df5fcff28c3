"""The one forward pass that all language-model indicators read: token ids in, six numbers a response token out.

Here belongs the arithmetic: what a row becomes as tokens (`Plan`), and how the numbers come out of hidden states
without ever holding the scores of all tokens over the whole vocabulary. Which sequences share a batch is decided in
`batching`; which model runs, and how a conversation is written down for it, is said in `causal_lm`; what the numbers
mean, in `methods`.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

OK = "ok"
TRUNCATED = "truncated"
TOO_LONG = "too_long"
EMPTY_RESPONSE = "empty_response"
NO_RESPONSE_TOKENS = "no_response_tokens"
TEMPLATE_MISMATCH = "template_mismatch"
OUT_OF_MEMORY = "out_of_memory"

_COLUMNS: dict[str, Any] = {
    "row_id": pl.String,
    "status": pl.String,
    "truncated": pl.Boolean,
    "n_prompt_tokens": pl.Int64,
    "n_response_tokens": pl.Int64,
    "logp_conditional": pl.List(pl.Float32),
    "logp_alone": pl.List(pl.Float32),
    "logp_prompt": pl.List(pl.Float32),
    "entropy": pl.List(pl.Float32),
    "sum_p2": pl.List(pl.Float32),
    "top1": pl.List(pl.Float32),
    "top2": pl.List(pl.Float32),
    "hit": pl.List(pl.Boolean),
}

TOKEN_STATISTICS_SCHEMA = pl.Schema(_COLUMNS)
"""One line a row. Lists have one entry a scored response token, in order, over all assistant turns; natural logs.
They are null unless the status is ``ok`` or ``truncated`` (then they hold the tokens before the cut). ``logp_prompt``
has one entry a token of everything else (what the others say and the template's marks) but the first, which nothing
predicts."""


@dataclass(frozen=True)
class Sequence_:
    """Token ids for one pass through the model, and which of them are scored as ``[start, stop)`` spans."""

    tokens: list[int]
    spans: list[tuple[int, int]]
    whole: bool = False
    """Score all the other tokens too, but the first."""
    opening: "Opening | None" = None
    """What it begins with, if that has been passed already."""

    @property
    def n_scored(self) -> int:
        """How many tokens the spans have."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def in_spans(self) -> np.ndarray:
        """The places of the tokens in spans."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.spans])

    @property
    def scored(self) -> np.ndarray:
        """The places of the tokens whose numbers are wanted, ascending."""
        return np.arange(1, len(self.tokens)) if self.whole else self.in_spans


@dataclass(frozen=True)
class Plan:
    """What is to be computed for a row: the whole conversation once, and each assistant turn on its own."""

    row_id: str
    status: str
    conditional: Sequence_ | None = None
    alone: list[Sequence_] = field(default_factory=list)

    def conditional_only(self) -> "Plan":
        """The same without the turns alone, and with nothing scored but the responses."""
        bare = self.conditional and replace(self.conditional, whole=False)
        return replace(self, conditional=bare, alone=[])

    @property
    def sequences(self) -> list[Sequence_]:
        """The passes of the row: the conversation, then each turn alone; none if there is nothing to score."""
        return [] if self.conditional is None else [self.conditional, *self.alone]


def plan_row(row_id: str, segments: Sequence[tuple[list[int], bool]], header: list[int], max_tokens: int) -> Plan:
    """Lay a conversation out as sequences.

    ``segments`` are token ids in order, each with whether it is an assistant turn (scored) or what stands before it.
    ``header`` is what a turn alone is conditioned on; it is never empty, since a first token has no probability.
    The conversation is cut after ``max_tokens``; the same tokens are scored in both passes.
    """
    if not header:
        raise ValueError("The header is empty: a response alone would have no probability for its first token.")
    tokens: list[int] = []
    spans: list[tuple[int, int]] = []
    for ids, scored in segments:
        if scored and ids:
            spans.append((len(tokens), len(tokens) + len(ids)))
        tokens.extend(ids)
    if not spans:
        return Plan(row_id, NO_RESPONSE_TOKENS)
    limit = min(max_tokens, spans[-1][1])
    kept = [(start, min(stop, limit)) for start, stop in spans if start < limit]
    # A turn alone must fit too: its header may be longer than what stands before it in the conversation.
    kept = [(start, min(stop, start + max_tokens - len(header))) for start, stop in kept]
    kept = [(start, stop) for start, stop in kept if stop > start]
    if not kept:
        return Plan(row_id, TOO_LONG)
    if kept[0][0] == 0:
        raise ValueError("The conversation starts with a scored token, which has no probability.")
    tokens = tokens[: kept[-1][1]]
    alone = [Sequence_(header + tokens[a:b], [(len(header), len(header) + b - a)]) for a, b in kept]
    status = OK if kept == spans else TRUNCATED
    return Plan(row_id, status, Sequence_(tokens, kept, whole=True), alone)


@dataclass(frozen=True)
class Head:
    """From hidden states to scores over the vocabulary, the way the model itself does it."""

    project: Callable[[Any], Any]
    vocabulary: int
    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, hidden: Any) -> Any:
        """Scores (n, vocabulary) in the model's precision, or in float32 where they are scaled or capped."""
        scores = self.project(hidden)
        if self.scale != 1.0:
            scores = scores.float().mul_(self.scale)
        if self.softcap:
            scores = scores.float().div_(self.softcap).tanh_().mul_(self.softcap)
        return scores


def head_of(model: Any) -> Head:
    """The model's head, checked against the model's own scores on a few tokens."""
    import torch

    config, project = model.config.get_text_config(), model.get_output_embeddings()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    head = Head(project, project.weight.shape[0], scale, softcap)
    with torch.inference_mode():
        few = torch.arange(3, 9, device=model.device)[None] % config.vocab_size
        mine = head(trunk(model, few)[0]).float()
        theirs = model(input_ids=few, use_cache=False).logits[0].float()
    if mine.shape != theirs.shape or not torch.allclose(mine, theirs, rtol=2e-2, atol=0.25):
        raise RuntimeError(
            f"{type(model).__name__} turns hidden states into scores in a way that this pass does not know; "
            "use another model, or teach `Head` what it does."
        )
    return head


def trunk(model: Any, ids: Any, opening: "Opening | None" = None) -> Any:
    """Hidden states (batch, length, width). Padding stands on the right, where a causal model cannot see it from the
    tokens before, so no mask is needed and the fast attention kernels apply."""
    if opening is None:
        return model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    past = copy.deepcopy(opening.past)  # the model adds to it
    past.batch_repeat_interleave(len(ids))
    return model.base_model(input_ids=ids, past_key_values=past, use_cache=True).last_hidden_state


@dataclass(frozen=True)
class Opening:
    """The tokens with which many sequences begin, passed once for all of them."""

    tokens: list[int]
    past: Any
    """What the model remembers of them (keys and values)."""
    last: Any
    """The hidden state (1, width) at the last of them, which predicts what comes next."""
    numbers: np.ndarray
    """(len(tokens), 6), by column `NUMBERS`; the first token has none."""


def remembers(model: Any) -> bool:
    """Whether the model goes on from an opening as if it had read it with the rest; some kinds do not."""
    import torch

    ids = torch.arange(3, 15, device=model.device)[None] % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        try:
            at_once = trunk(model, ids)[0, 6:].float()
            past = model.base_model(input_ids=ids[:, :6], use_cache=True).past_key_values
            opening = Opening([], past, None, np.zeros(0))
            behind = trunk(model, ids[:, 6:].repeat(2, 1), opening)[1].float()
        except Exception:  # a kind of memory that cannot be repeated for a batch
            return False
    return torch.allclose(at_once, behind, rtol=2e-2, atol=0.1 * float(at_once.abs().mean()))


WORTH_SHARING = 8
"""Fewer common tokens than this cost more as an opening than they save."""


def opening_of(model: Any, head: Head, sequences: Sequence[Sequence_]) -> Opening | None:
    """What all these sequences begin with (a template's system prompt, a header), if it is long enough to be shared."""
    import torch

    if len(sequences) < 2:
        return None
    first, last = min(s.tokens for s in sequences), max(s.tokens for s in sequences)
    longest = min(len(s.tokens) for s in sequences) - 1  # something must be left to run
    n = next((i for i in range(longest) if first[i] != last[i]), longest)
    if n < WORTH_SHARING:
        return None
    ids = torch.tensor([first[:n]], device=model.device)
    with torch.inference_mode():
        passed = model.base_model(input_ids=ids, use_cache=True)
        hidden = passed.last_hidden_state[0]
        numbers = np.full((n, len(NUMBERS)), np.nan)
        numbers[1:] = label_statistics(hidden[:-1], ids[0, 1:], head, _chunk(head, hidden))
    return Opening(first[:n], passed.past_key_values, hidden[-1:], numbers)


NUMBERS = ("logp", "entropy", "sum_p2", "top1", "top2", "hit")
"""What is known of a position, in this order (that of `methods.numerics.vocabulary`)."""


def label_statistics(hidden: Any, labels: Any, head: Head, chunk: int) -> np.ndarray:
    """The numbers of the spec's one-pass table for n positions, from (n, width) hidden states and (n,) next tokens.

    (n, 6) float64, by column `NUMBERS`. With p the softmax of the scores at a position: ``logp = ln p_label``,
    ``entropy = -sum p ln p`` in nats, ``sum_p2 = sum p^2``, the two largest p, and ``hit`` = the label is the (or a)
    most probable token. Only ``chunk`` positions are spread over the vocabulary at a time.
    """
    found = np.empty((len(labels), len(NUMBERS)))
    of_scores = _by_rows if hidden.device.type == "cpu" else _by_columns
    for start in range(0, len(labels), chunk):
        part = slice(start, start + chunk)
        of_scores(head(hidden[part]), labels[part], found[part])
    return found


def _by_rows(scores: Any, labels: Any, found: np.ndarray) -> None:
    """On a CPU: each row of scores is read once, by compiled code."""
    import torch

    from methods.numerics.vocabulary import statistics

    if scores.dtype == torch.bfloat16:
        statistics(scores.view(torch.uint16).numpy(), 16, labels.numpy(), found)
    else:
        statistics(scores.float().contiguous().view(torch.int32).numpy(), 0, labels.numpy(), found)


def _by_columns(scores: Any, labels: Any, found: np.ndarray) -> None:
    """On a GPU: whole blocks of scores at a time, in float32."""
    import torch

    scores = scores.float()
    two = scores.topk(2, dim=-1).values
    scores = scores.sub_(two[:, :1])
    label = scores.gather(1, labels[:, None])[:, 0]
    weights = scores.exp()
    total = weights.sum(dim=-1)
    log_total = total.log()
    away = scores.clamp_min_(-1e4)  # a forbidden token has p = 0 and p ln p = 0, not nothing
    columns = (
        label - log_total,
        (log_total - torch.linalg.vecdot(weights, away) / total).clamp_min(0.0),
        torch.linalg.vecdot(weights, weights) / total.square(),
        total.reciprocal(),
        (two[:, 1] - two[:, 0]).exp() / total,
        (label == 0).float(),
    )
    found[:] = torch.stack(columns, dim=1).cpu().numpy()


def score_batch(
    model: Any, head: Head, sequences: Sequence[Sequence_], opening: Opening | None = None
) -> list[np.ndarray]:
    """One forward pass over sequences of like length; for each, its numbers at the scored tokens in order.

    Where there is an ``opening``, all of them begin with it, and only what follows runs through the model.
    """
    import torch

    shared = len(opening.tokens) if opening else 0
    ids = _padded([s.tokens[shared:] for s in sequences])
    where = [s.scored for s in sequences]
    new = [places[places >= shared] for places in where]
    rows = torch.from_numpy(np.repeat(np.arange(len(sequences)), [len(places) for places in new]))
    columns = torch.from_numpy(np.concatenate(new) - shared)
    with torch.inference_mode():
        hidden = trunk(model, ids.to(model.device), opening)
        before = hidden[rows.to(hidden.device), (columns - 1).clamp(min=0).to(hidden.device)]  # j - 1 predicts token j
        if opening:
            before[columns == 0] = opening.last
        labels = ids[rows, columns].to(hidden.device)
        found = label_statistics(before, labels, head, _chunk(head, hidden))
    parts = np.split(found, np.cumsum([len(places) for places in new])[:-1])
    if opening is None:
        return parts
    known = [opening.numbers[places[places < shared]] for places in where]
    return [np.concatenate(both) for both in zip(known, parts, strict=True)]


def _chunk(head: Head, hidden: Any) -> int:
    """How many positions are spread over the vocabulary at a time."""
    room = 32 << 20 if hidden.device.type == "cpu" else 512 << 20  # bytes; a CPU's cache holds little more
    return max(1, room // (head.vocabulary * hidden.element_size()))


def _padded(sequences: Sequence[list[int]]) -> Any:
    """Token ids (n, longest) with zeros behind."""
    import torch

    ids = torch.zeros((len(sequences), max(len(tokens) for tokens in sequences)), dtype=torch.long)
    for row, tokens in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return ids


def next_batch(model: Any, head: Head, sequences: Sequence[Sequence_], words: Sequence[int]) -> list[np.ndarray]:
    """For each sequence ln p of these tokens (float64) at the place behind its last."""
    import torch

    ids = _padded([s.tokens for s in sequences])
    last = torch.tensor([len(s.tokens) - 1 for s in sequences])
    with torch.inference_mode():
        hidden = trunk(model, ids.to(model.device))[torch.arange(len(sequences)), last]
        scores = head(hidden).double().log_softmax(dim=-1)
    return list(scores[:, list(words)].cpu().numpy())


def frame_of(plans: Sequence[Plan], results: Sequence[list[np.ndarray | None]]) -> pl.DataFrame:
    """The finished lines of some rows: ``results`` holds, for each plan, the conditional pass and then each turn's."""
    lines = []
    for plan, found in zip(plans, results, strict=True):
        line: dict[str, Any] = {"row_id": plan.row_id, "status": plan.status}
        line["truncated"] = plan.status in (TRUNCATED, TOO_LONG)
        passes = [numbers for numbers in found if numbers is not None]
        if len(passes) < len(found):
            line["status"] = OUT_OF_MEMORY
        elif plan.conditional is not None:
            line |= _numbers_of(plan.conditional, passes)
        lines.append(line)
    return pl.DataFrame(lines, schema=TOKEN_STATISTICS_SCHEMA)


def _numbers_of(conditional: Sequence_, passes: Sequence[np.ndarray]) -> dict[str, Any]:
    """The columns of a row whose passes are all there."""
    in_spans = np.isin(conditional.scored, conditional.in_spans)
    scored = dict(zip(NUMBERS, passes[0][in_spans].T, strict=True))
    return {
        "n_response_tokens": conditional.n_scored,
        "n_prompt_tokens": len(conditional.tokens) - conditional.n_scored,
        "logp_conditional": scored["logp"].tolist(),
        "logp_alone": np.concatenate([numbers[:, 0] for numbers in passes[1:]]).tolist() if passes[1:] else None,
        "logp_prompt": passes[0][~in_spans, 0].tolist() if conditional.whole else None,
        **{name: scored[name].tolist() for name in ("entropy", "sum_p2", "top1", "top2")},
        "hit": scored["hit"].astype(np.bool_).tolist(),
    }
