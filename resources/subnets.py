"""What is left of a causal language model when a part of it is taken away: the loss of responses on such subnets.

Here belongs thinning the loaded model and putting it back exactly as it was, and passing rows through each of its thin
forms. The pass itself is that of `causal_lm`; what the losses say of a row stands in `methods.quality.subnets`.

Two kinds. *Magnitude*: each linear layer inside the model lacks the given share of its weights, the smallest by size.
The output head and the embeddings stay whole: they are often the same weights, and then a hole in one is a hole in
the other. *Dropout*: the outputs of each attention and feed-forward block lack the given share of their units, and the
others are raised to make up for it. Which units are missing is drawn once a subnet and holds for every token of every
row. So a subnet is one network, all rows are asked the same ones, and nothing depends on what shares a batch; usual
dropout draws anew for each token and would score a row by its luck. It also needs no dropout layers, which many models
lack.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from methods.quality.subnets import SUBNETS_SCHEMA
from resources import models
from resources.causal_lm import CausalLM, Progress
from resources.token_pass import OK

Kind = Literal["magnitude", "dropout"]
ROWS_TOGETHER = 256
"""Rows that pass through all subnets before the next ones do: thinning costs about as much as passing a few rows."""
ATTENTION = {"self_attn", "attn", "attention", "self_attention"}
FEED_FORWARD = {"mlp", "feed_forward", "ffn", "fc2", "block_sparse_moe"}
"""What these blocks are called within a layer, in the models that `transformers` knows."""


class _Cut(NamedTuple):
    """Which weights of a layer go: those below a size, and the first few of just that size."""

    weight: Any
    below: float
    of_that_size: int


def subnet_losses(
    model: CausalLM,
    rows: pl.DataFrame,
    kind: Kind,
    levels: Sequence[float],
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Iterator[pl.DataFrame]:
    """`SUBNETS_SCHEMA` for all rows, one finished frame at a time: the mean NLL of each response on each subnet.

    ``rows`` are as for `CausalLM.token_statistics`; the responses are read behind their prompts. ``levels`` are the
    shares that the subnets lack. Rows that cannot be read have the status of the model's pass and no losses.
    """
    thin = _Thinner(model, kind, levels, seed)
    done = 0
    for block in rows.iter_slices(ROWS_TOGETHER):
        passes = []
        for number, level in enumerate(levels):
            with thin(number):
                # Collected here: whoever gets a frame finds the model whole.
                read = pl.concat(list(model.token_statistics(block, alone=False)))
            passes.append(_losses(read, level if models.is_fake(model.model) else None))
        yield _together(block, passes)
        done += block.height
        if on_progress is not None:
            on_progress(done, rows.height)


def _losses(read: pl.DataFrame, stand_in: float | None) -> pl.DataFrame:
    """The mean NLL of each row that was read to its end; a stand-in's grows with what it lacks."""
    nll = -pl.col("logp_conditional").cast(pl.List(pl.Float64)).list.mean()
    if stand_in is not None:
        nll = nll * (1 + stand_in)
    return read.select("row_id", "status", nll=pl.when(pl.col("status") == OK).then(nll)).unique("row_id", keep="first")


def _together(block: pl.DataFrame, passes: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One line a row; its status is that of the first subnet that could not read it."""
    found = block.select("row_id")
    for number, losses in enumerate(passes):
        named = losses.rename({"status": f"status {number}", "nll": f"nll {number}"})
        found = found.join(named, on="row_id", how="left", maintain_order="left")
    states = [pl.when(pl.col(f"status {n}") != OK).then(f"status {n}") for n in range(len(passes))]
    status = pl.coalesce(*states, pl.lit(OK))
    nll = pl.concat_list(f"nll {n}" for n in range(len(passes)))
    return found.select("row_id", status=status, mean_nll=pl.when(status == OK).then(nll)).cast(
        pl.Schema(dict(SUBNETS_SCHEMA))
    )


def checked(kind: str, levels: Sequence[float]) -> list[float]:
    """The levels, if these subnets can be made of a model."""
    if kind not in ("magnitude", "dropout"):
        raise ValueError(f"subnets={kind!r} are not known: use magnitude or dropout")
    if not levels or not all(0 <= level < 1 for level in levels):
        raise ValueError(f"the levels of subnets are shares of what is missing, from 0 to below 1; got {levels!r}")
    return [float(level) for level in levels]


class _Thinner:
    """The subnets of a model by number, each a context in which the model is that subnet."""

    def __init__(self, model: CausalLM, kind: Kind, levels: Sequence[float], seed: int) -> None:
        self.levels, self.kind, self.seed = checked(kind, levels), kind, seed
        self.inner = None if models.is_fake(model.model) else model.load().model
        self.cuts: dict[int, list[_Cut]] = {}

    def __call__(self, number: int) -> AbstractContextManager[None]:
        if self.inner is None:
            return _whole()
        if self.kind == "dropout":
            return dropout(self.inner, self.levels[number], _seed(self.seed, number))
        if number not in self.cuts:
            self.cuts[number] = cuts_of(self.inner, self.levels[number])
        return _pruned(self.cuts[number])


@contextmanager
def _whole() -> Iterator[None]:
    yield


def _seed(*parts: int) -> int:
    """A number that hangs on these and nothing else."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest())


# ---- weights -------------------------------------------------------------------------------------------------------


def magnitude(model: Any, sparsity: float) -> AbstractContextManager[None]:
    """A context in which each linear layer of the model lacks the ``sparsity`` share of its weights, the smallest by
    size; of equal ones those with the lowest index. Behind it the model is as before, bit by bit."""
    return _pruned(cuts_of(model, sparsity))


def cuts_of(model: Any, sparsity: float) -> list[_Cut]:
    """What `magnitude` cuts from each layer: worked out once for many blocks of rows."""
    return [_cut(weight, round(sparsity * weight.numel())) for weight in _linear_weights(model)]


def _linear_weights(model: Any) -> list[Any]:
    """The weights of the linear layers but the head, each once; GPT-2's convolutions of width 1 are linear layers."""
    import torch
    from transformers.pytorch_utils import Conv1D

    spared = {id(part.weight) for part in (model.get_output_embeddings(), model.get_input_embeddings()) if part}
    layers = (module for module in model.modules() if isinstance(module, torch.nn.Linear | Conv1D))
    found = {id(layer.weight): layer.weight for layer in layers if id(layer.weight) not in spared}
    return list(found.values())


def _cut(weight: Any, count: int) -> _Cut:
    import torch

    if count == 0:
        return _Cut(weight, 0.0, 0)
    with torch.inference_mode():
        sizes = weight.detach().float().abs().flatten()
        size = sizes.kthvalue(count).values
        return _Cut(weight, float(size), count - int((sizes < size).sum()))


@contextmanager
def _pruned(cuts: Sequence[_Cut]) -> Iterator[None]:
    import torch

    kept: list[tuple[Any, Any]] = []
    try:
        with torch.no_grad():
            for weight, below, few in cuts:
                if few == 0:  # a cut takes its largest weight by count: none of that size is no cut at all
                    continue
                # On a GPU the copy waits in the machine's memory: two models may not fit side by side.
                kept.append((weight, weight.detach().to("cpu", copy=True)))
                sizes = weight.detach().float().abs().flatten()
                same = sizes == below
                gone = (sizes < below) | (same & (same.cumsum(0) <= few))
                weight.masked_fill_(gone.view_as(weight), 0.0)
        yield
    finally:
        with torch.no_grad():
            for weight, before in kept:
                weight.copy_(before)


# ---- units ---------------------------------------------------------------------------------------------------------


@contextmanager
def dropout(model: Any, p: float, seed: int) -> Iterator[None]:
    """A context in which the outputs of all attention and feed-forward blocks lack a share ``p`` of their units.

    Each unit is missing with probability ``p``, at all places of all rows alike; the others are divided by 1 - p.
    """
    import torch

    hooks = []
    try:
        width = int(model.config.get_text_config().hidden_size)
        for place, block in enumerate(_blocks(model)):
            there = np.random.default_rng([seed, place]).random(width) >= p
            scale = torch.from_numpy(there / (1 - p)).to(device=model.device, dtype=model.dtype)
            hooks.append(block.register_forward_hook(_scaling(scale)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _scaling(scale: Any) -> Any:
    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # attention also hands out its weights
            return (output[0] * scale, *output[1:])
        return output * scale

    return hook


def _blocks(model: Any) -> list[Any]:
    """The attention and feed-forward blocks of every layer, in order."""
    import torch

    lists = [module for module in model.base_model.modules() if isinstance(module, torch.nn.ModuleList)]
    layers: Any = max(lists, key=len, default=[])
    found = []
    for layer in layers:
        children = dict(layer.named_children())
        parts = [part for name, part in children.items() if name in ATTENTION | FEED_FORWARD]
        if not (ATTENTION & set(children) and FEED_FORWARD & set(children)):
            raise ValueError(
                f"{type(model).__name__} names its blocks in a way that is not known here ({', '.join(children)}): "
                'use subnets="magnitude".'
            )
        found += parts
    if not found:
        raise ValueError(f'{type(model).__name__} has no layers that are known here: use subnets="magnitude".')
    return found
