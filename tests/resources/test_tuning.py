"""Trainings of tiny models: the loss against the model's own, the folder, resuming to the bit, what is left out."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from resources import causal_lm, training_loop, training_rows
from resources.causal_lm import CausalLM
from resources.training_loop import Tuning
from resources.tuning import STEPS_SCHEMA, Tuned, fingerprint_of, tune
from tests import tiny as tiny_models

ROOT = Path(__file__).resolve().parents[2]
FULL = Tuning(epochs=3, learning_rate=5e-3, batch_rows=4, max_tokens=64, warmup=0.1, seed=1)
LORA = replace(FULL, method="lora", learning_rate=2e-2, lora_rank=4, lora_alpha=8, lora_dropout=0.1)
"""With dropout: its draws must be the same after a break."""


@pytest.fixture(scope="module", autouse=True)
def little_to_collect() -> Iterator[None]:
    """A training collects garbage twice, each time half a second for all that importing torch and the like made."""
    import peft  # noqa: F401
    from transformers import Trainer  # noqa: F401

    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama, tied, with a byte-level tokenizer that has a few merges and an end of text."""
    folder = tmp_path_factory.mktemp("lm") / "tiny"
    size = tiny_models.tokenizer(folder, bos_token="<|s|>", eos_token="<|e|>")
    tied = {"tie_word_embeddings": True, "initializer_range": 0.2}
    tiny_models.llama(folder, size, max_position_embeddings=256, bos_token_id=0, eos_token_id=1, **tied)
    return folder


def lm(folder: Path | str, **fields: Any) -> CausalLM:
    return CausalLM(**{"model": str(folder), "device": "cpu", "dtype": "float32", **fields})


def rows_of(*talks: list[tuple[str, str]]) -> pl.DataFrame:
    messages = [[{"role": role, "content": content} for role, content in talk] for talk in talks]
    return pl.DataFrame({"row_id": [f"r{i:02}" for i in range(len(messages))], "messages": messages})


TALK = [("user", "cat?"), ("assistant", "it sat"), ("user", "dog?"), ("assistant", "it ran")]
ROWS = rows_of(
    *[[("user", f"the {w} {i}"), ("assistant", f"{w} ran away")] for w in ("cat", "dog") for i in range(5)], TALK
)


def weights(folder: Path | str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in Path(folder).glob("*.safetensors")}


def loaded(folder: Path | str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()


def written(tiny: Path, rows: pl.DataFrame, max_tokens: int = 64) -> tuple[list[Any], dict[str, int]]:
    whole = causal_lm.load(str(tiny), "cpu", "float32")
    return training_rows.training_rows(lm(tiny), whole, training_rows.conversations(rows), max_tokens)


@pytest.fixture(scope="module")
def tuned(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Tuning], Tuned]:
    """Trainings that several tests look at, each made once."""
    home, made = tmp_path_factory.mktemp("models"), {}

    def of(tuning: Tuning) -> Tuned:
        if tuning not in made:
            made[tuning] = tune(lm(tiny), ROWS, home / f"toy-{fingerprint_of(lm(tiny), ROWS, tuning)}", tuning)
        return made[tuning]

    return of


def test_all_turns_and_one_end_of_text_are_learned(tiny: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    (row,), left_out = written(tiny, rows_of(TALK))
    assert left_out == {}
    text = "### Instruction:\ncat?\n\n### Response:\nit sat\n\n### Instruction:\ndog?\n\n### Response:\nit ran<|e|>"
    assert tokenizer.decode(row.tokens, clean_up_tokenization_spaces=False) == text
    assert tokenizer.decode(row.tokens[row.learned], clean_up_tokenization_spaces=False) == "it satit ran<|e|>"


def test_rows_that_are_cut_have_no_end_and_rows_without_anything_to_learn_are_counted(tiny: Path) -> None:
    (whole,), _ = written(tiny, rows_of(TALK))
    n = len(whole.tokens)
    for limit in (n, n - 1, n - 2):
        (row,), _ = written(tiny, rows_of(TALK), limit)
        assert row.tokens.tolist() == whole.tokens[:limit].tolist()
        assert row.learned.tolist() == [at for at in whole.learned if at < limit]
    rows = rows_of([("user", "a")], [("user", "long " * 60), ("assistant", "b")], [("user", "a"), ("assistant", " ")])
    assert written(tiny, rows) == ([], {"empty_response": 2, "too_long": 1})


def test_the_loss_is_that_of_the_model_with_everything_but_the_responses_masked(
    tiny: Path, tuned: Callable[[Tuning], Tuned]
) -> None:
    """Brute force: one padded batch with a mask, labels -100 outside of the responses, the model's own mean loss."""
    import torch

    rows, _ = written(tiny, ROWS)
    batch = [rows[i] for i in training_rows.steps_of(len(rows), FULL.batch_rows, FULL.epochs, FULL.seed)[0]]
    width = max(len(row.tokens) for row in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for at, row in enumerate(batch):
        ids[at, : len(row.tokens)] = torch.from_numpy(row.tokens)
        mask[at, : len(row.tokens)] = 1
        labels[at, row.learned] = ids[at, row.learned]
    theirs = loaded(tiny)
    loss = theirs(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    for method in (FULL, LORA):
        first = tuned(method).steps.row(0, named=True)
        assert first["tokens"] == int((labels >= 0).sum())
        assert first["loss"] == pytest.approx(loss.item(), abs=1e-5)  # fresh low-rank matrices change nothing yet
    for budget in (1, 64, 4096):  # the parts of a batch change nothing
        ours = loaded(tiny)
        assert training_rows.backward(ours, batch, budget) == pytest.approx(loss.item(), abs=1e-5)
        for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(a.grad, b.grad, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", ["Gemma2", "Granite"])
def test_heads_that_cap_or_scale_their_scores_learn_as_they_do_by_themselves(kind: str) -> None:
    import torch
    import transformers

    extra = {"final_logit_softcapping": 0.5} if kind == "Gemma2" else {"logits_scaling": 3.0}
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    config = getattr(transformers, f"{kind}Config")(**sizes, num_attention_heads=2, num_key_value_heads=2, **extra)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    ids = torch.arange(3, 20)[None]
    theirs = model(input_ids=ids, labels=ids).loss
    (slope,) = torch.autograd.grad(theirs, model.get_input_embeddings().weight)
    row = training_rows.TrainingRow(ids[0].numpy(), np.arange(1, 17))
    assert training_rows.backward(model, [row], 64) == pytest.approx(theirs.item(), abs=1e-5)
    torch.testing.assert_close(model.get_input_embeddings().weight.grad, slope, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("tuning", [FULL, LORA], ids=["full", "lora"])
def test_what_was_trained_is_likelier_in_the_pass_that_measures(
    tiny: Path, tuned: Callable[[Tuning], Tuned], tuning: Tuning
) -> None:
    found = tuned(tuning)
    assert found.steps.schema == STEPS_SCHEMA and found.steps["step"].to_list() == list(range(1, 10))
    assert (found.rows, found.tokens) == (11, found.steps["tokens"].sum()) and found.seconds > 0
    loss = found.steps["loss"]
    assert loss[-3:].mean() < 0.95 * loss[:3].mean()  # type: ignore[operator]
    nll = []
    for folder in (tiny, Path(found.model)):
        lines = pl.concat(list(lm(folder).token_statistics(ROWS)))
        nll.append(-lines.sort("row_id")["logp_conditional"].list.mean().to_numpy())
    assert (nll[1] < nll[0]).all()


def test_the_rate_rises_in_a_line_and_falls_with_a_half_cosine_and_nothing_is_said(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tuning = replace(FULL, epochs=2, batch_rows=2, warmup=0.34)  # 12 steps, 4 of them warm-up
    rates = tune(lm(tiny), ROWS, tmp_path / "m", tuning).steps["learning_rate"].to_numpy() / tuning.learning_rate
    falling = 0.5 * (1 + np.cos(np.pi * np.arange(8) / 8))
    np.testing.assert_allclose(rates, [0, 0.25, 0.5, 0.75, *falling], atol=1e-12)
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""


def test_the_folder_is_a_model_like_any_other(tiny: Path, tuned: Callable[[Tuning], Tuned]) -> None:
    import torch
    from transformers import AutoTokenizer

    ids = torch.arange(3, 40)[None]
    for tuning in (FULL, LORA):
        folder = Path(tuned(tuning).model)
        model, base = loaded(folder), loaded(tiny)
        assert model.config.use_cache is True and AutoTokenizer.from_pretrained(folder).eos_token == "<|e|>"
        assert not torch.allclose(model(ids).logits, base(ids).logits, atol=1e-3)
        assert not folder.with_name(f"{folder.name}.part").exists()
        card = json.loads((folder / "card.json").read_text())
        assert card["base"]["model"] == "tiny" and card["tuning"]["method"] == tuning.method
        assert (card["rows"], card["steps"], card["left_out"]) == (11, 9, {})
        assert card["loss_first"] == tuned(tuning).steps["loss"][0]
        assert ("peft" in card["versions"]) == (tuning.method == "lora")


def test_low_rank_matrices_are_merged_and_everything_else_stays(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merged folder against the model with its matrices still beside the weights, and against ``W + s B A``."""
    import torch

    kept: dict[str, Any] = {}
    adapted = training_loop._adapted

    def watched(causal: Any, tuning: Tuning) -> Any:
        learner = adapted(causal, tuning)
        merge = learner.merge_and_unload

        def merged() -> Any:
            learner.eval()
            kept["scores"] = learner(torch.arange(3, 40)[None]).logits.detach()
            kept["matrices"] = {n: p.detach().clone() for n, p in learner.named_parameters() if "lora_" in n}
            return merge()

        learner.merge_and_unload = merged
        return learner

    monkeypatch.setattr(training_loop, "_adapted", watched)
    found = tune(lm(tiny), ROWS, tmp_path / "m", replace(LORA, lora_targets=("q_proj", "v_proj")))
    after, before = loaded(found.model), dict(loaded(tiny).named_parameters())
    torch.testing.assert_close(after(torch.arange(3, 40)[None]).logits, kept["scores"], atol=1e-5, rtol=1e-4)
    changed = 0
    for name, weight in after.named_parameters():
        if not name.endswith(("q_proj.weight", "v_proj.weight")):
            assert torch.equal(weight, before[name]), name
            continue
        inner = f"base_model.model.{name.removesuffix('.weight')}"
        a, b = (kept["matrices"][f"{inner}.lora_{x}.default.weight"] for x in "AB")
        torch.testing.assert_close(weight, before[name] + 8 / 4 * (b @ a), atol=1e-6, rtol=1e-5)
        changed += 1
    assert changed == 4


@pytest.mark.parametrize("tuning", [FULL, LORA], ids=["full", "lora"])
def test_the_same_again_is_the_same_to_the_bit_and_another_seed_is_not(
    tiny: Path, tmp_path: Path, tuned: Callable[[Tuning], Tuned], tuning: Tuning
) -> None:
    import torch

    state, arrays = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    shuffled = ROWS.sample(fraction=1.0, shuffle=True, seed=3)  # the order of the rows plays no part
    again = tune(lm(tiny), shuffled, tmp_path / "again", tuning)
    assert torch.equal(state, torch.random.get_rng_state()) and (arrays == np.random.get_state()[1]).all()
    assert weights(again.model) == weights(tuned(tuning).model) and len(weights(again.model)) == 1
    assert again.steps.equals(tuned(tuning).steps)
    cards = [(Path(model) / "card.json").read_bytes() for model in (again.model, tuned(tuning).model)]
    assert cards[0] == cards[1]
    other = tune(lm(tiny), ROWS, tmp_path / "other", replace(tuning, seed=2))
    assert weights(other.model) != weights(again.model)


def test_the_fingerprint_is_that_of_what_decides_the_weights(tiny: Path) -> None:
    base = fingerprint_of(lm(tiny), ROWS, FULL)
    same = [fingerprint_of(lm(tiny, dtype="auto", max_tokens=99), ROWS.reverse(), FULL)]
    other = [
        fingerprint_of(lm(tiny), ROWS.head(10), FULL),
        fingerprint_of(lm(tiny), rows_of(*[TALK] * 11), FULL),
        fingerprint_of(lm(tiny, template="chat"), ROWS, FULL),
        fingerprint_of(lm("fake:bigrams"), ROWS, FULL),
        *[fingerprint_of(lm(tiny), ROWS, t) for t in (LORA, replace(FULL, seed=2), replace(FULL, epochs=2))],
    ]
    assert same == [base] and len({base, *other}) == len(other) + 1


def test_what_is_there_is_not_trained_again(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = replace(FULL, epochs=0.3)
    first = tune(lm(tiny), ROWS, tmp_path / "m", tuning)
    assert first.steps.height == 1
    with monkeypatch.context() as patch:
        patch.setattr(causal_lm, "load", lambda *_: pytest.fail("a model was loaded"))
        again = tune(lm(tiny), ROWS, tmp_path / "m", tuning)
    assert again.steps.equals(first.steps) and replace(again, steps=first.steps) == first
    changed = tune(lm(tiny), ROWS, tmp_path / "m", replace(tuning, seed=5))  # another training takes its place
    assert json.loads((tmp_path / "m" / "card.json").read_text())["tuning"]["seed"] == 5 and changed.rows == 11
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="not made by a training"):
        tune(lm(tiny), ROWS, tmp_path / "mine", tuning)


class Stop(Exception): ...


@pytest.mark.parametrize("tuning", [FULL, LORA], ids=["full", "lora"])
def test_a_broken_training_goes_on_from_its_last_checkpoint(
    tiny: Path, tmp_path: Path, tuned: Callable[[Tuning], Tuned], tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)

    def stop(done: int, of: int) -> None:
        if done == 6:  # before the checkpoint of this step: five are kept
            raise Stop

    folder = tmp_path / "m"
    with pytest.raises(Stop):
        tune(lm(tiny), ROWS, folder, tuning, stop)
    assert not folder.exists()
    half = tmp_path / "m.part" / "checkpoints" / "checkpoint-7"  # one that a kill broke off while it was written
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    calls: list[tuple[int, int]] = []
    found = tune(lm(tiny), ROWS, folder, tuning, lambda done, of: calls.append((done, of)))
    assert calls == [(6, 9), (7, 9), (8, 9), (9, 9)]
    assert weights(folder) == weights(tuned(tuning).model)
    assert found.steps.equals(tuned(tuning).steps) and found.tokens == tuned(tuning).tokens
    assert sorted(p.name for p in tmp_path.iterdir()) == [".m.lock", "m"]


def test_what_another_training_left_is_not_taken_over(
    tiny: Path, tmp_path: Path, tuned: Callable[[Tuning], Tuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0.0)

    def stop(done: int, of: int) -> None:
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        tune(lm(tiny), ROWS, tmp_path / "m", replace(FULL, seed=9), stop)
    assert weights(tune(lm(tiny), ROWS, tmp_path / "m", FULL).model) == weights(tuned(FULL).model)


KILLED = """
import sys
from pathlib import Path
import polars as pl
from resources import training_loop
from resources.causal_lm import CausalLM
from resources.training_loop import Tuning
from resources.tuning import tune
training_loop.CHECKPOINT_SECONDS = 0.0
base, rows, folder = sys.argv[1:]
tuning = Tuning(epochs=3000, learning_rate=5e-3, batch_rows=4, max_tokens=64, warmup=0.1, seed=1)
tune(CausalLM(model=base, device="cpu"), pl.read_parquet(rows), Path(folder), tuning)
"""


def test_a_killed_process_leaves_no_folder_and_a_checkpoint_to_go_on_from(tiny: Path, tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "rows.parquet")
    command = [sys.executable, "-c", KILLED, str(tiny), str(tmp_path / "rows.parquet"), str(tmp_path / "m")]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    checkpoints, until = tmp_path / "m.part" / "checkpoints", time.monotonic() + 60
    try:
        while process.poll() is None and time.monotonic() < until and not any(checkpoints.glob("*/trainer_state.json")):
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "m").exists()
    last = training_loop.checkpoint(tmp_path / "m.part")
    assert last is not None and int(last.name.split("-")[1]) == len(training_loop.lines(tmp_path / "m.part")) >= 1


def test_a_batch_that_does_not_fit_is_passed_in_smaller_parts(
    tiny: Path, tmp_path: Path, tuned: Callable[[Tuning], Tuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = training_rows._summed, []

    def small(causal: Any, rows: list[Any], mixed: bool) -> Any:
        if len(rows) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        sizes.append(len(rows))
        return real(causal, rows, mixed)

    monkeypatch.setattr(training_rows, "_summed", small)
    found = tune(lm(tiny), ROWS, tmp_path / "m", FULL)
    assert set(sizes) == {1}
    np.testing.assert_allclose(found.steps["loss"], tuned(FULL).steps["loss"], atol=1e-4)


def test_a_loss_that_is_no_number_stops_the_training(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError, match="lower learning_rate"):
        tune(lm(tiny), ROWS, tmp_path / "m", replace(FULL, learning_rate=1e30, warmup=0.0))
    assert not (tmp_path / "m").exists()


def test_steps_are_the_epochs_shuffled_and_cut() -> None:
    steps = training_rows.steps_of(10, 4, 2.0, 0)
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = np.concatenate(steps[:3]), np.concatenate(steps[3:])
    assert sorted(first) == sorted(second) == list(range(10)) and first.tolist() != second.tolist()
    for epochs, count in ((0.01, 1), (1 / 3, 1), (0.5, 2), (1.1, 4)):
        part = training_rows.steps_of(10, 4, epochs, 0)
        assert [s.tolist() for s in part] == [s.tolist() for s in steps[:count]]


@pytest.mark.parametrize("model", ["fake:bigrams", None])
def test_rows_with_nothing_to_learn_are_refused_in_words(tiny: Path, tmp_path: Path, model: str | None) -> None:
    base = lm(model or tiny)
    with pytest.raises(ValueError, match=r"none of the 2 rows .* \(2 empty_response\)"):
        tune(base, rows_of([("user", "a")], [("user", "b"), ("assistant", " ")]), tmp_path / "m", FULL)
    with pytest.raises(ValueError, match="no rows were given"):
        tune(base, ROWS.clear(), tmp_path / "m", FULL)
    assert not (tmp_path / "m").exists()


def test_a_stand_in_is_not_trained_and_says_so(tmp_path: Path) -> None:
    base = lm("fake:bigrams")
    fields = pl.DataFrame({"row_id": ["a", "b"], "instruction": ["x", "y"], "input": ["", ""], "response": ["z", ""]})
    for _ in range(2):
        found = tune(base, fields, tmp_path / "m", FULL)
        assert found.model == f"fake:tuned-{fingerprint_of(base, fields, FULL)}"
        assert found.steps.is_empty() and found.steps.schema == STEPS_SCHEMA
        assert (found.rows, found.tokens, found.seconds) == (1, 0, 0)
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["card.json"]
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert card["note"] == "stand-in: nothing was trained" and card["loss_last"] is None
    assert pl.concat(list(lm(found.model).token_statistics(fields)))["status"].to_list() == ["ok", "empty_response"]


@pytest.mark.parametrize("wrong", [{"method": "half"}, {"epochs": 0}, {"batch_rows": -1}, {"warmup": 1.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tuning(**wrong)
