"""UniEval's T5 against plain forward passes one question at a time; padding, cuts, memory, what is no checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from methods.quality.unieval import DIMENSIONS, question
from resources import boolean_qa
from resources.boolean_qa import UniEval
from resources.models import ModelUnavailable

NATURAL = DIMENSIONS["dialogue"]["naturalness"]
TEXTS = ["the cat sat", "a dog ran away and away and away", "x", "春天来了", "the cat sat", "cat " * 40, "?"]
QUESTIONS = [question(NATURAL, output=text) for text in TEXTS]


def made(folder: Path, words: tuple[str, ...] = ("Yes", "No"), seed: int = 0) -> Path:
    """A random T5 with a unigram tokenizer whose pieces are these words and some letters."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    letters = [*"abcdefghijklmnopqrstuvwxyz:?.", "▁", "▁the", "▁cat", "▁response:", "▁question:"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in words)]
    tokenizer = T5Tokenizer(vocab=[*pieces, *((piece, -2.0) for piece in letters)], extra_ids=0)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0,
        initializer_factor=0.6,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("t5"))


def qa(folder: Path, **fields: Any) -> UniEval:
    return UniEval(model=str(folder), device="cpu", **fields)


def one_by_one(folder: Path, questions: list[str], limit: int = 1024) -> list[float]:
    """The oracle: each question alone, with labels as in training, the whole softmax, then the two chances."""
    import torch
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = T5ForConditionalGeneration.from_pretrained(folder).eval()
    yes, no = (tokenizer(word)["input_ids"][0] for word in ("Yes", "No"))
    found = []
    for text in questions:
        ids = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            p = model(input_ids=ids, labels=torch.tensor([[no]])).logits[0, 0].softmax(-1).double()
        found.append(float(p[yes] / (p[yes] + p[no])))
    return found


def test_every_chance_is_that_of_a_plain_pass(tiny: Path) -> None:
    found = qa(tiny).ask(QUESTIONS)
    assert found.status == ["ok"] * len(QUESTIONS) and not found.truncated.any()
    np.testing.assert_allclose(found.chance, one_by_one(tiny, QUESTIONS), atol=1e-5)
    assert len({round(value, 4) for value in found.chance}) > 4  # the model tells them apart
    assert found.chance[0] == pytest.approx(found.chance[4], abs=1e-6)


def test_what_shares_a_batch_does_not_matter(tiny: Path) -> None:
    together = qa(tiny, batch_tokens=100_000).ask(QUESTIONS).chance
    alone = np.concatenate([qa(tiny).ask([one]).chance for one in QUESTIONS])
    small = qa(tiny, batch_tokens=1).ask(QUESTIONS).chance
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(small, alone, atol=1e-5)


def test_a_long_question_is_cut_and_said_to_be(tiny: Path) -> None:
    lengths = [len(qa(tiny)._load().tokenizer(one)["input_ids"]) for one in QUESTIONS]
    limit = sorted(lengths)[4]
    found = qa(tiny, max_tokens=limit).ask(QUESTIONS)
    assert found.truncated.tolist() == [length > limit for length in lengths]
    assert found.truncated.any() and not found.truncated.all()
    np.testing.assert_allclose(found.chance, one_by_one(tiny, QUESTIONS, limit), atol=1e-5)


def test_batches_that_do_not_fit_are_halved(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, sizes = qa(tiny).ask(QUESTIONS).chance, []
    real = boolean_qa._first_word

    def narrow(loaded: Any, batch: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2 or max(len(one.tokens) for one in batch) == longest_seen:
            raise RuntimeError("CUDA out of memory")
        return real(loaded, batch)

    longest_seen = max(len(qa(tiny)._load().tokenizer(one)["input_ids"]) for one in QUESTIONS)
    monkeypatch.setattr(boolean_qa, "_first_word", narrow)
    found = qa(tiny, batch_tokens=100_000).ask(QUESTIONS)
    longest = int(np.argmax([len(one) for one in QUESTIONS]))
    assert max(sizes) > 2
    assert [at for at, status in enumerate(found.status) if status == "out_of_memory"] == [longest]
    assert np.isnan(found.chance[longest])
    rest = np.arange(len(QUESTIONS)) != longest
    np.testing.assert_allclose(found.chance[rest], whole[rest], atol=1e-5)


def test_another_error_is_not_swallowed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(boolean_qa, "_first_word", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        qa(tiny).ask(QUESTIONS[:1])


def test_nothing_to_ask(tiny: Path) -> None:
    found = qa(tiny).ask([])
    assert (len(found.chance), found.status, len(found.truncated)) == (0, [], 0)


def test_a_model_that_cannot_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot answer with Yes or No"):
        qa(made(tmp_path, ("Yes", "Maybe"))).ask(QUESTIONS[:1])


def test_a_tokenizer_that_cannot_be_read_says_what_is_missing(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "spiece.model").write_bytes(b"no model")
    with pytest.raises(ModelUnavailable, match="sentencepiece"):
        qa(tmp_path).ask(QUESTIONS[:1])


def test_the_identity(tiny: Path, tmp_path: Path) -> None:
    assert UniEval().identity() == {}
    base = qa(tiny).identity()
    assert json.loads(json.dumps(base)) == base and base["max_tokens"] == 1024 and base["dtype"] == "float32"
    assert qa(tiny, batch_tokens=7).identity() == base
    assert qa(tiny, max_tokens=9).identity() != base
    assert qa(made(tmp_path / tiny.name, seed=1)).identity() != base  # the same name, other weights
    assert UniEval(model="fake:unieval").identity()["model"] == "fake:unieval"


def test_the_stand_in() -> None:
    fake = UniEval(model="fake:unieval")
    found = fake.ask(QUESTIONS)
    assert found.status == ["ok"] * len(QUESTIONS) and ((found.chance >= 0) & (found.chance < 1)).all()
    assert found.chance[0] == found.chance[4] != found.chance[1]
    assert fake.ask(QUESTIONS[2:3]).chance[0] == found.chance[2]
    assert len(fake.ask([]).chance) == 0
