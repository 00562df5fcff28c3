"""Contradictions against a plain forward pass of a tiny model, pair by pair; labels by name, cuts, and models that are none."""

from pathlib import Path

import numpy as np
import pytest

from resources import models
from resources.nli import LABELS, NLI, label_place, stand_in

LINES = ["the cat sat on the mat and ran", "who sat there ? a dog did .", "river garden letter"] * 3
PAIRS = [
    ("the cat sat", "a dog did"),
    ("a dog did", "the cat sat"),
    ("the cat sat on the mat and the dog ran", "river"),
    ("letter", "the garden and the river and the mat and the cat"),
]
MIXED = {0: "CONTRADICTION", 1: "Entailment", 2: "neutral"}


def saved(folder: Path, labels: dict[int, str]) -> Path:
    """A tiny BERT with a tokenizer of whole words and these labels."""
    import torch
    from tokenizers import Tokenizer, pre_tokenizers, processors, trainers
    from tokenizers.models import WordLevel
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    rust = Tokenizer(WordLevel(unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.train_from_iterator(LINES, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]))
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    words = PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, num_labels=len(labels), id2label=labels, label2id={n: i for i, n in labels.items()},
        initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("nli"), MIXED)


def plain(folder: Path, pair: tuple[str, str], label: int) -> float:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(**tokenizer(*pair, return_tensors="pt")).logits.double()[0]
    return float(logits.softmax(0)[label])


@pytest.mark.parametrize("batch_tokens", [1, 64, None])
def test_each_pair_as_by_itself_and_order_matters(folder: Path, batch_tokens: int | None) -> None:
    found, status = NLI(model=str(folder), device="cpu", batch_tokens=batch_tokens).contradiction(PAIRS)
    np.testing.assert_allclose(found, [plain(folder, pair, 0) for pair in PAIRS], atol=1e-6)
    assert status == ["ok"] * len(PAIRS) and abs(found[0] - found[1]) > 1e-4


def test_the_label_is_found_by_its_name(tmp_path: Path, folder: Path) -> None:
    other = saved(tmp_path / "other", {0: "entailment", 1: "neutral", 2: "contradiction"})
    found, _ = NLI(model=str(other), device="cpu").contradiction(PAIRS)
    np.testing.assert_allclose(found, [plain(other, pair, 2) for pair in PAIRS], atol=1e-6)
    assert label_place(MIXED, "m") == 0 and set(LABELS) == {"entailment", "neutral", "contradiction"}
    for wrong in ({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, {0: "entailment", 1: "not_entailment"}, {0: "good"}):
        with pytest.raises(models.ModelUnavailable, match="has the labels"):
            label_place(wrong, "m")


def test_a_model_without_the_three_labels_is_refused(tmp_path: Path) -> None:
    wrong = saved(tmp_path / "two", {0: "bad", 1: "good"})
    with pytest.raises(models.ModelUnavailable, match="has the labels bad, good"):
        NLI(model=str(wrong), device="cpu").contradiction(PAIRS)


def test_long_pairs_are_cut_and_said_to_be(folder: Path) -> None:
    long = ("the cat " * 20, "a dog did")
    found, status = NLI(model=str(folder), device="cpu").contradiction([long, PAIRS[0]])
    # 24 places, of which three are special tokens and three the hypothesis'.
    np.testing.assert_allclose(found[0], plain(folder, ("the cat " * 9, "a dog did"), 0), atol=1e-6)
    assert status == ["truncated", "ok"]
    assert NLI(model=str(folder), device="cpu", max_tokens=9).contradiction(PAIRS)[1] == [
        "ok",
        "ok",
        "truncated",
        "truncated",
    ]


def test_nothing_is_compared_with_nothing(folder: Path) -> None:
    nli = NLI(model=str(folder), device="cpu")
    found, status = nli.contradiction([("", "the cat"), ("the cat", " "), PAIRS[0]])
    assert np.isnan(found[:2]).all() and np.isfinite(found[2]) and status == ["empty_response"] * 2 + ["ok"]
    assert nli.contradiction([])[1] == []
    with pytest.raises(ValueError, match="no model of natural language inference"):
        NLI().contradiction(PAIRS)


def test_memory_that_ends_leaves_no_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resources import batching

    monkeypatch.setattr(batching, "score_all", lambda forward, items, budget: [None, *forward(items[1:])])
    found, status = NLI(model=str(folder), device="cpu").contradiction(PAIRS[:2])
    assert status == ["out_of_memory", "ok"] and np.isnan(found[0]) and np.isfinite(found[1])


def test_identity(folder: Path) -> None:
    assert NLI().identity() == {}
    one = NLI(model=str(folder)).identity()
    assert one["kind"] == "nli" and one != NLI(model=str(folder), max_tokens=64).identity()
    fake = NLI(model="fake:nli")
    assert fake.identity()["model"] == "fake:nli"
    found, status = fake.contradiction([("a b", "b c"), ("a", "a"), ("a", "")])
    assert (
        found[:2].tolist() == [0.5, 0.0] == [stand_in("a b", "b c"), stand_in("a", "a")]
        and status[2] == "empty_response"
    )
