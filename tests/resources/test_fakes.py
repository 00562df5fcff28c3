"""The stand-ins keep the models' promises: shapes, statuses, every row once, numbers that agree with one another."""

import math

import numpy as np
import polars as pl
import pytest

from resources.causal_lm import CausalLM
from resources.encoder import Encoder
from resources.fakes import FakeCausalLM, FakeEncoder
from resources.from_env import causal_lm, causal_lm_from_env, encoder_from_env
from resources.token_pass import TOKEN_STATISTICS_SCHEMA


def vectors_of(encoder: Encoder, texts: list[str]) -> np.ndarray:
    found = np.empty((len(texts), encoder.dimension()), dtype=np.float32)
    for block in encoder.encode(texts, block=2):
        found[block.indices] = block.vectors
    return found


def test_alike_texts_have_alike_vectors() -> None:
    texts = ["the cat sat on the mat", "The cat sat on a mat", "stocks fell sharply today", "", "😀", "\u200b"]
    found = vectors_of(FakeEncoder(), texts)
    assert found[0] @ found[1] > 0.7 > 0.4 > abs(found[0] @ found[2])
    assert np.isnan(found[3]).all()
    np.testing.assert_allclose(np.linalg.norm(found[[0, 1, 2, 4, 5]], axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found, vectors_of(FakeEncoder(), texts))


def test_fake_blocks_are_shaped_like_real_ones() -> None:
    calls: list[tuple[int, int]] = []
    blocks = list(FakeEncoder(max_tokens=2).encode(["a b c", "", "a b"], lambda *c: calls.append(c), block=2))
    assert [b.indices.tolist() for b in blocks] == [[0, 2], [1]]
    assert blocks[0].truncated.tolist() == [True, False] and blocks[0].n_tokens.tolist() == [2, 2]
    assert blocks[1].status == ["empty_text"] and calls == [(2, 3), (3, 3)]
    np.testing.assert_array_equal(blocks[0].vectors[0], blocks[0].vectors[1])


def rows(*pairs: tuple[str, str]) -> pl.DataFrame:
    messages = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    return pl.DataFrame({"row_id": [str(i) for i in range(len(pairs))], "messages": messages})


def test_fake_numbers_agree_with_one_another() -> None:
    pairs = [("tell me of cats", "cats are small animals , cats purr"), ("", "Да, 三!"), ("q", " ")]
    frame = pl.concat(list(FakeCausalLM().token_statistics(rows(*pairs * 200))))
    assert frame.schema == TOKEN_STATISTICS_SCHEMA and frame["row_id"].to_list() == [str(i) for i in range(600)]
    assert frame["status"].to_list() == ["ok", "ok", "empty_response"] * 200
    lists = pl.col("logp_conditional", "logp_alone", "entropy", "sum_p2", "top1", "top2", "hit")
    tokens = frame.filter(pl.col("status") == "ok").select(lists).explode(lists)
    label = tokens["logp_conditional"].exp()
    assert (label <= tokens["top1"] + 1e-6).all() and (tokens["top2"] <= tokens["top1"] + 1e-6).all()
    assert ((label - tokens["top1"]).abs() < 1e-6).to_list() == tokens["hit"].to_list()
    assert (tokens["sum_p2"] <= tokens["top1"] + 1e-6).all() and (tokens["sum_p2"] >= tokens["top1"] ** 2 - 1e-6).all()
    assert (tokens["entropy"] > 0).all() and (tokens["entropy"] < math.log(1000)).all()
    assert (tokens["top1"] + tokens["top2"] <= 1 + 1e-6).all()
    assert (tokens["logp_conditional"] >= tokens["logp_alone"]).all()
    assert tokens["hit"].n_unique() == 2


def test_fake_prompts_help_and_cuts_are_said() -> None:
    frame = next(
        FakeCausalLM(max_tokens=4).token_statistics(rows(("a cat", "cat b c d"), ("a b c d e", "x"), ("", "y")))
    )
    assert frame["status"].to_list() == ["truncated", "too_long", "ok"]
    assert frame["n_response_tokens"].to_list() == [2, None, 1]
    gain = np.array(frame["logp_conditional"][0]) - np.array(frame["logp_alone"][0])
    assert gain[0] == pytest.approx(math.log(1.5), abs=1e-5) and gain[1] == pytest.approx(math.log(1.05), abs=1e-5)


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLUICE_ENCODER", "SLUICE_CAUSAL_LM", "SLUICE_DEVICE", "SLUICE_DTYPE"):
        monkeypatch.delenv(name, raising=False)
    assert encoder_from_env() == Encoder() and causal_lm_from_env() == CausalLM()
    monkeypatch.setenv("SLUICE_ENCODER", "fake")
    monkeypatch.setenv("SLUICE_CAUSAL_LM", "fake:two")
    assert isinstance(encoder_from_env(), FakeEncoder)
    assert causal_lm_from_env().identity() != FakeCausalLM().identity()
    monkeypatch.setenv("SLUICE_CAUSAL_LM", "owner/name")
    monkeypatch.setenv("SLUICE_DEVICE", "cuda:1")
    monkeypatch.setenv("SLUICE_DTYPE", "float32")
    assert causal_lm_from_env() == CausalLM(model="owner/name", device="cuda:1", dtype="float32")


def test_a_real_class_with_a_fake_model_is_the_fake() -> None:
    texts = ["a b", "c"]
    np.testing.assert_array_equal(vectors_of(Encoder(model="fake:words"), texts), vectors_of(FakeEncoder(), texts))
    assert Encoder(model="fake:words").identity() == FakeEncoder().identity()
    some = rows(("a", "b"))
    (mine,), (theirs,) = (list(m.token_statistics(some)) for m in (CausalLM(model="fake"), causal_lm("fake")))
    assert mine.equals(theirs)
