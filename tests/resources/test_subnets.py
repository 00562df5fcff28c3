"""Subnets: torch's own pruning as the oracle, a model that comes back bit by bit, and losses that hang on no batch."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from methods.quality.subnets import SUBNETS_SCHEMA
from resources import subnets
from resources.causal_lm import CausalLM
from resources.subnets import subnet_losses
from tests import tiny as tiny_models

NARROW: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 260}


def _config(kind: str) -> Any:
    from transformers import GPT2Config, LlamaConfig

    if kind == "llama":
        return LlamaConfig(**NARROW, intermediate_size=32, initializer_range=0.3, tie_word_embeddings=True)
    return GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=260, n_positions=256, initializer_range=0.3)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a byte-level tokenizer: one with gated blocks, one with dropout layers and convolutions."""
    import torch
    from transformers import AutoModelForCausalLM

    made = tmp_path_factory.mktemp(request.param)
    tiny_models.tokenizer(made, ("<|e|>",), text="x", eos_token="<|e|>")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(_config(request.param)).save_pretrained(made)
    return made


def lm(folder: Path | str, **fields: Any) -> CausalLM:
    return CausalLM(**{"model": str(folder), "device": "cpu", "dtype": "float32", **fields})


def rows_of(*responses: str) -> pl.DataFrame:
    said = [
        [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": r}] for i, r in enumerate(responses)
    ]
    return pl.DataFrame({"row_id": [f"r{i}" for i in range(len(said))], "messages": said})


ROWS = rows_of("the dog ran", "x", "and so it goes on and on and on", "")


def losses(model: CausalLM, rows: pl.DataFrame, kind: Any, levels: list[float], **more: Any) -> dict[str, Any]:
    frames = list(subnet_losses(model, rows, kind, levels, **more))
    assert all(frame.schema == pl.Schema(dict(SUBNETS_SCHEMA)) for frame in frames)
    found = pl.concat(frames)
    assert found["row_id"].to_list() == rows["row_id"].to_list()
    return {row["row_id"]: row["mean_nll"] for row in found.to_dicts()}


def plain(model: CausalLM, rows: pl.DataFrame) -> dict[str, float]:
    read = pl.concat(list(model.token_statistics(rows, alone=False)))
    return {
        row["row_id"]: -float(np.mean(np.float64(row["logp_conditional"])))
        for row in read.filter(pl.col("status") == "ok").to_dicts()
    }


def weights(model: CausalLM) -> dict[str, Any]:
    return {name: value.clone() for name, value in model.load().model.state_dict().items()}


@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.4])
def test_the_smallest_weights_go_as_in_torchs_own_pruning(folder: Path, sparsity: float) -> None:
    import torch
    from torch.nn.utils import prune
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    model = AutoModelForCausalLM.from_pretrained(folder)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with subnets.magnitude(model, sparsity):
        within = {name: value.clone() for name, value in model.state_dict().items()}
    again = model.state_dict()
    assert all(torch.equal(before[name], again[name]) for name in before)
    head = model.get_output_embeddings()
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head]
    for layer in layers:
        if sparsity:
            prune.l1_unstructured(layer, "weight", amount=sparsity)
            prune.remove(layer, "weight")
    wanted = model.state_dict()
    assert all(torch.equal(within[name], wanted[name]) for name in wanted)
    assert len(layers) >= 8


def test_of_equal_weights_the_first_go(folder: Path) -> None:
    import torch

    layer = torch.nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[0.5, -0.5, 0.1, 0.5]])
    holder = torch.nn.Sequential(layer)
    holder.get_output_embeddings = holder.get_input_embeddings = lambda: None  # type: ignore[assignment]
    with subnets.magnitude(holder, 0.5):
        assert layer.weight.tolist() == [[0.0, -0.5, 0.0, 0.5]]
    assert layer.weight.tolist() == [[0.5, -0.5, pytest.approx(0.1), 0.5]]


@pytest.mark.parametrize("kind", ["magnitude", "dropout"])
def test_losses_are_those_of_the_thinned_model_and_the_model_stays_whole(folder: Path, kind: Any) -> None:
    import torch

    model = lm(folder)
    before = weights(model)
    found = losses(model, ROWS, kind, [0.0, 0.3, 0.6])
    after = model.load().model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks for module in model.load().model.modules())
    assert found.pop("r3") is None
    dense = plain(model, ROWS)
    assert dense.keys() == found.keys()
    for name, values in found.items():
        assert values[0] == pytest.approx(dense[name], abs=1e-5)
        assert len({round(v, 6) for v in values}) == 3
    if kind == "magnitude":
        with subnets.magnitude(model.load().model, 0.6):
            assert {name: values[2] for name, values in found.items()} == pytest.approx(plain(model, ROWS), abs=1e-5)


def test_the_model_is_whole_after_a_fault_and_between_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model = lm(folder)
    before = weights(model)
    monkeypatch.setattr(subnets, "ROWS_TOGETHER", 2)
    for kind in ("magnitude", "dropout"):
        frames = subnet_losses(model, ROWS, kind, [0.5])  # type: ignore[arg-type]
        assert next(frames).height == 2
        assert plain(model, ROWS) == pytest.approx(plain(lm(folder), ROWS))
        frames.close()
        context = subnets.magnitude(model.load().model, 0.5)
        if kind == "dropout":
            context = subnets.dropout(model.load().model, 0.5, 0)
        with pytest.raises(ZeroDivisionError), context:
            raise ZeroDivisionError
        after = model.load().model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert not any(module._forward_hooks for module in model.load().model.modules())


@pytest.mark.parametrize("kind", ["magnitude", "dropout"])
def test_nothing_hangs_on_the_batch_or_the_order(folder: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ROWS.head(3)
    found = losses(lm(folder), rows, kind, [0.2, 0.5])
    monkeypatch.setattr(subnets, "ROWS_TOGETHER", 1)
    other = losses(lm(folder, batch_tokens=1), rows[::-1], kind, [0.2, 0.5])
    for name, values in found.items():
        assert values == pytest.approx(other[name], abs=1e-5)


def test_a_seed_is_a_draw_and_each_subnet_has_its_own(folder: Path) -> None:
    rows = ROWS.head(1)
    one = losses(lm(folder), rows, "dropout", [0.5, 0.5])["r0"]
    assert one[0] != pytest.approx(one[1], abs=1e-4)
    assert losses(lm(folder), rows, "dropout", [0.5, 0.5])["r0"] == one
    assert losses(lm(folder), rows, "dropout", [0.5, 0.5], seed=1)["r0"] != pytest.approx(one, abs=1e-4)


def test_half_of_the_units_are_missing_everywhere_alike(folder: Path) -> None:
    """The outputs of every block, with and without: the same units are 0 at all places, the others are doubled."""
    import torch

    model = lm(folder).load().model
    blocks = subnets._blocks(model)
    assert len(blocks) == 4
    ids = torch.tensor([[5, 9, 200, 7], [8, 3, 3, 3]])

    def first_output() -> np.ndarray:
        seen: list[Any] = []
        hook = blocks[0].register_forward_hook(
            lambda _m, _i, out: seen.append(out[0] if isinstance(out, tuple) else out)
        )
        with torch.no_grad():
            model(ids)
        hook.remove()
        return seen[0].numpy()

    whole = first_output()
    with subnets.dropout(model, 0.5, 3):
        thin = first_output()
    ratio = (thin / whole).reshape(-1, 16)
    assert ratio == pytest.approx(np.tile(ratio[0], (8, 1)), abs=1e-5)
    assert sorted({round(float(x), 4) + 0.0 for x in ratio[0]}) == [0.0, 2.0]


def test_statuses(folder: Path) -> None:
    rows = rows_of("the dog ran", "the dog ran " * 20)
    (frame,) = subnet_losses(lm(folder, max_tokens=80), rows, "magnitude", [0.0, 0.2])
    assert frame["status"].to_list() == ["ok", "truncated"]
    assert frame["mean_nll"].is_null().to_list() == [False, True]
    assert list(subnet_losses(lm(folder), rows.clear(), "magnitude", [0.0])) == []
    for kind, levels in (("noise", [0.1]), ("dropout", [1.0]), ("magnitude", [])):
        with pytest.raises(ValueError, match=r"magnitude or dropout|shares"):
            list(subnet_losses(lm(folder), rows, kind, levels))  # type: ignore[arg-type]


def test_a_model_with_unknown_blocks_is_refused() -> None:
    import torch

    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(2, 2))])

        @property
        def base_model(self) -> torch.nn.Module:
            return self

    with pytest.raises(ValueError, match="magnitude"):
        subnets._blocks(Odd())
    with pytest.raises(ValueError, match="no layers"):
        subnets._blocks(type("Bare", (), {"base_model": torch.nn.Linear(1, 1)})())


def test_a_stand_in_loses_more_the_more_it_lacks() -> None:
    found = losses(lm("fake:words"), ROWS, "magnitude", [0.0, 0.2, 0.4])
    assert found.pop("r3") is None
    dense = plain(lm("fake:words"), ROWS)
    for name, values in found.items():
        assert values == pytest.approx([dense[name] * level for level in (1, 1.2, 1.4)])
