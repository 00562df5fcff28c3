"""The aligners against plain loops over single texts and pairs; words and pieces, cuts, padding, CTC's own files."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.quality.alignment import ALIGNMENT_SCHEMA, BETWEEN, word_spans
from resources import alignment
from resources.alignment import Aligner, cleaned, words_of_pieces
from resources.models import ModelUnavailable

ROWS = [
    ("Who sat on the mat?", "", "The cat sat on the mat, it did."),
    ("Tell me of the harbour.", "Ships lie there. It’s “old”.", "Old ships lie in the harbour."),
    ("春天来了吗？", "", "春天来了，abc花开。"),
    ("", "only material", "word"),
    ("Say nothing.", "", " \n "),
    ("", "", "nobody asked"),
    ("Who sat on the mat?", "", "The cat sat on the mat, it did."),
]


def rows_of(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    lines = [(f"{i:032x}", *row) for i, row in enumerate(rows)]
    return pl.DataFrame(lines, schema=["row_id", "instruction", "input", "response"], orient="row")


def words_tokenizer(folder: Path, *, roberta: bool) -> Any:
    """A tokenizer with a few merges over bytes (RoBERTa's marks), or one of letters (BERT's)."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
    from tokenizers.models import BPE, WordPiece
    from transformers import PreTrainedTokenizerFast

    if roberta:
        rust = Tokenizer(BPE(unk_token="<unk>"))
        rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        )  # fmt: skip
        rust.train_from_iterator(["the cat sat on the mat ships lie in the harbour"] * 4, trainer)
        rust.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
        names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        made = PreTrainedTokenizerFast(
            tokenizer_object=rust, **names, model_input_names=["input_ids", "attention_mask"]
        )  # fmt: skip
    else:
        letters = [*"abcdefghijklmnopqrstuvwxyz", "春", "天", "来"]
        pieces = [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            *letters,
            *("##" + c for c in letters),
            ",",
            ".",
            "?",
            "the",
            "##at",
        ]
        rust = Tokenizer(WordPiece({w: i for i, w in enumerate(pieces)}, unk_token="[UNK]"))
        rust.normalizer = normalizers.BertNormalizer()
        rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        rust.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        made = PreTrainedTokenizerFast(tokenizer_object=rust, **names)
    made.save_pretrained(folder)
    return made


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def bert_in(folder: Path) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = words_tokenizer(folder, roberta=False)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=80, initializer_range=0.3, **SIZES)
    BertModel(config).save_pretrained(folder)
    return folder


def roberta_config(size: int, **more: Any) -> Any:
    from transformers import RobertaConfig

    return RobertaConfig(
        vocab_size=size, max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, initializer_range=0.3,
        **SIZES, **more,
    )  # fmt: skip


def classifier_in(folder: Path, labels: int = 2) -> Path:
    import torch
    from transformers import RobertaForTokenClassification

    tokenizer = words_tokenizer(folder, roberta=True)
    torch.manual_seed(1)
    RobertaForTokenClassification(roberta_config(len(tokenizer), num_labels=labels)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_in(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier_in(tmp_path_factory.mktemp("roberta"))


def aligner(folder: Path, **fields: Any) -> Aligner:
    return Aligner(model=str(folder), device="cpu", **fields)


def table(model: Aligner, rows: list[tuple[str, str, str]] = ROWS) -> list[dict[str, Any]]:
    """All lines in the order of the rows; each must come exactly once, in the promised shape."""
    frames = list(model.align(rows_of(rows)))
    assert all(frame.schema == pl.Schema(dict(ALIGNMENT_SCHEMA)) for frame in frames)
    lines = sorted(pl.concat(frames).to_dicts(), key=lambda line: line["row_id"])
    assert [line["row_id"] for line in lines] == rows_of(rows)["row_id"].to_list()
    return lines


def of_words(text: str, offsets: list[tuple[int, int]], numbers: list[Any]) -> list[list[Any]]:
    """For each word the numbers of the pieces that share a character with it, by looking at every pair."""
    found = []
    for a, b in word_spans(text):
        found.append([x for (c, d), x in zip(offsets, numbers, strict=True) if max(a, c) < min(b, d)])
    return found


# ---- the embedding aligner -------------------------------------------------------------------------------------------
class Cosines:
    """The oracle: each text alone through the model, then every piece against every piece."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModel.from_pretrained(folder).eval()

    def vectors(self, text: str) -> tuple[list[tuple[int, int]], list[np.ndarray]]:
        import torch

        read = self.tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
        offsets = [tuple(pair) for pair in read.pop("offset_mapping")[0].tolist()][1:-1]
        with torch.no_grad():
            hidden = self.model(**read).last_hidden_state[0, 1:-1].double().numpy()
        return offsets, list(hidden)

    def __call__(self, text: str, context: str) -> list[float]:
        offsets, ours = self.vectors(text)
        _, theirs = self.vectors(context)
        best = []
        for u in ours:
            cosines = [float(u @ v / np.sqrt((u @ u) * (v @ v))) for v in theirs]
            best.append(min(1.0, max(0.0, *cosines)))
        return [float(np.mean(one)) for one in of_words(text, offsets, best)]


def test_every_alignment_is_the_largest_cosine(bert: Path) -> None:
    oracle, lines = Cosines(bert), table(aligner(bert))
    for (instruction, material, response), line in zip(ROWS[:4], lines[:4], strict=True):
        assert line["status"] == "ok" and not line["truncated"]
        both = BETWEEN.join(text for text in (material, instruction) if text)
        for name, context in (("instruction", instruction), ("input", material), ("prompt", both)):
            if not context:
                assert line[f"to_{name}"] is line[f"of_{name}"] is None
                continue
            np.testing.assert_allclose(line[f"to_{name}"], oracle(response, context), atol=1e-5)
            np.testing.assert_allclose(line[f"of_{name}"], oracle(context, response), atol=1e-5)
    assert lines[0]["stop"] == [True, False, False, True, True, False, True, True]
    assert len(lines[2]["to_prompt"]) == 8 and len(set(lines[0]["to_prompt"])) > 4
    assert {**lines[6], "row_id": ""} == {**lines[0], "row_id": ""}


def test_rows_without_words_or_contexts(bert: Path) -> None:
    lines = table(aligner(bert))
    assert lines[4] == {"row_id": f"{4:032x}", "status": "empty_response", "truncated": False, "stop": None} | dict.fromkeys(
        list(ALIGNMENT_SCHEMA)[4:]
    )  # fmt: skip
    assert lines[5]["status"] == "ok" and lines[5]["to_prompt"] is None and lines[5]["stop"] == []
    assert list(aligner(bert).align(rows_of([]))) == []


def test_a_text_is_carried_by_itself(bert: Path, roberta: Path) -> None:
    line = table(aligner(bert), [("the cat", "", "the cat")])[0]
    assert line["to_prompt"] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert max(line["to_prompt"]) <= 1.0


def test_what_shares_a_batch_does_not_matter(bert: Path, roberta: Path) -> None:
    for folder in (bert, roberta):
        whole = table(aligner(folder, batch_tokens=10_000))
        small = table(aligner(folder, batch_tokens=1))
        alone = [table(aligner(folder), [row])[0] for row in ROWS]
        for one, two, three in zip(whole, small, alone, strict=True):
            for name in list(ALIGNMENT_SCHEMA)[4:]:
                for other in (two, three):
                    assert (one[name] is None) == (other[name] is None)
                    np.testing.assert_allclose(one[name] or [], other[name] or [], atol=1e-5)


def test_a_word_that_the_tokenizer_drops_cannot_be_aligned(bert: Path) -> None:
    dropped = "the \u200b cat"
    lines = table(aligner(bert), [("the cat", "", dropped), (dropped, "", "the cat"), ("\u200b", "", "the cat")])
    assert [line["status"] for line in lines] == ["unaligned", "ok", "unaligned"]
    assert lines[0]["to_prompt"] is None and lines[1]["of_prompt"] is None and len(lines[1]["to_prompt"]) == 2


def test_a_long_text_is_cut_at_a_piece(bert: Path) -> None:
    """The model has 80 places: 78 pieces."""
    long = "abc " * 30
    line = table(aligner(bert), [("the cat", "", long)])[0]
    assert line["truncated"] and len(line["to_prompt"]) == len(line["stop"]) == 26
    assert table(aligner(bert), [("the cat", "", "abc " * 26)])[0]["truncated"] is False
    assert len(table(aligner(bert, max_tokens=8), [("the cat", "", long)])[0]["to_prompt"]) == 2


def test_batches_that_do_not_fit(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = table(aligner(bert))
    real = alignment._unit_vectors

    def narrow(loaded: Any, batch: Any) -> Any:
        if len(batch) > 2 or len(batch[0].tokens) > 40:
            raise RuntimeError("CUDA out of memory")
        return real(loaded, batch)

    monkeypatch.setattr(alignment, "_unit_vectors", narrow)
    lines = table(aligner(bert, batch_tokens=10_000))
    assert [line["status"] for line in lines][:3] == ["ok", "out_of_memory", "ok"]
    assert lines[1]["to_input"] is None
    np.testing.assert_allclose(lines[0]["to_prompt"], whole[0]["to_prompt"], atol=1e-5)


def test_the_embedded_encoder() -> None:
    """Words that stand in the context are carried, each more than any of a sentence about other things."""
    rows = [("The cat sat on the mat in the kitchen.", "", "The cat sat. Quarterly revenue fell sharply.")]
    line = table(Aligner(device="cpu"), rows)[0]
    known, strange = line["to_prompt"][:3], line["to_prompt"][3:]
    assert line["status"] == "ok" and min(known) > max(strange) > min(strange) > 0


# ---- the discriminative aligner --------------------------------------------------------------------------------------
class Classes:
    """The oracle: each pair alone, features of a word's pieces put together, the head, the softmax's first class."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForTokenClassification, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForTokenClassification.from_pretrained(folder).eval()

    def __call__(self, text: str, context: str, how: str = "mean") -> list[float]:
        import torch

        read = self.tokenizer(
            text, context, truncation="only_second", max_length=64, return_offsets_mapping=True, return_tensors="pt"
        )
        first = [at for at, of in enumerate(read.sequence_ids(0)) if of == 0]
        offsets = [tuple(pair) for pair in read.pop("offset_mapping")[0].tolist()]
        with torch.no_grad():
            hidden = self.model.roberta(**read).last_hidden_state[0]
            found = []
            for places in of_words(text, [offsets[at] for at in first], first):
                features = hidden[places].mean(0) if how == "mean" else hidden[places].sum(0)
                found.append(float(self.model.classifier(features).softmax(-1)[0]))
        return found


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_every_word_is_classified_as_in_a_plain_pass(roberta: Path, pool: str) -> None:
    oracle, lines = Classes(roberta), table(aligner(roberta, pool=pool))
    for at in (0, 1, 2):
        instruction, material, response = ROWS[at]
        both = BETWEEN.join(text for text in (material, instruction) if text)
        response = cleaned(response)
        assert len(oracle.tokenizer(response, add_special_tokens=False)["input_ids"]) <= 31
        np.testing.assert_allclose(lines[at]["to_prompt"], oracle(response, cleaned(both), pool), atol=1e-5)
        np.testing.assert_allclose(lines[at]["to_instruction"], oracle(response, cleaned(instruction), pool), atol=1e-5)
    np.testing.assert_allclose(lines[3]["of_input"], oracle("only material", "word", pool), atol=1e-5)
    assert lines[4]["status"] == "empty_response" and len(set(lines[0]["to_prompt"])) > 4


def test_the_text_is_cut_at_half_and_the_context_at_the_rest(roberta: Path) -> None:
    """The model has 64 places: 31 pieces of the text, and what is left of the context."""
    oracle = Classes(roberta)
    long = "the cat sat on the mat " * 30
    line = table(aligner(roberta), [("the", "", long)])[0]
    ids = oracle.tokenizer(long, add_special_tokens=False, return_offsets_mapping=True)
    kept = long[: ids["offset_mapping"][30][1]]
    assert line["truncated"] and len(line["to_prompt"]) == len(word_spans(kept)) == len(line["stop"])
    np.testing.assert_allclose(line["to_prompt"], oracle(kept, "the"), atol=1e-5)
    np.testing.assert_allclose(line["of_prompt"], oracle("the", cleaned(long)), atol=1e-5)
    short = table(aligner(roberta), [("the cat sat", "", "the cat sat")])[0]
    assert not short["truncated"]


def test_texts_are_cleaned_as_ctc_does(roberta: Path) -> None:
    assert cleaned("  It’s “OLD”\t  x \n\n y ") == 'it\'s "old" x \n\n y'
    one, two = (
        table(aligner(roberta, lower=low), [("THE CAT", "", "The CAT")])[0]["to_prompt"] for low in (True, False)
    )
    assert one != pytest.approx(two, abs=1e-4)
    np.testing.assert_allclose(one, Classes(roberta)("the cat", "the cat"), atol=1e-5)


@pytest.mark.parametrize("wrapped", [True, False])
def test_ctcs_own_files(roberta: Path, tmp_path: Path, wrapped: bool) -> None:
    """Weights named as CTC names them, beside the base model's configuration and tokenizer, give the same numbers."""
    import torch

    tokenizer = words_tokenizer(tmp_path, roberta=True)
    roberta_config(len(tokenizer)).save_pretrained(tmp_path)
    oracle = Classes(roberta)
    state = {f"_{name}": value for name, value in oracle.model.state_dict().items()}
    state |= {"_roberta.pooler.dense.weight": torch.zeros(32, 32), "_roberta.embeddings.position_ids": torch.arange(3)}
    torch.save({"state_dict": state, "epoch": 1} if wrapped else state, tmp_path / "disc.ckpt")
    line = table(aligner(tmp_path), [("the cat", "", "the mat sat")])[0]
    np.testing.assert_allclose(line["to_prompt"], oracle("the mat sat", "the cat", "sum"), atol=1e-5)
    before = aligner(tmp_path).identity()
    state["_classifier.bias"] = torch.ones(2)
    torch.save(state, tmp_path / "disc.ckpt")
    assert before["style"] == "discriminative" and aligner(tmp_path).identity() != before


def test_what_is_no_aligner_is_refused(bert: Path, tmp_path: Path) -> None:
    import torch

    with pytest.raises(ModelUnavailable, match="two classes"):
        table(aligner(classifier_in(tmp_path / "three", labels=3)))
    with pytest.raises(ModelUnavailable, match="it lacks classifier"):
        table(aligner(bert, style="discriminative"))
    folder = tmp_path / "ctc"
    tokenizer = words_tokenizer(folder, roberta=True)
    roberta_config(len(tokenizer)).save_pretrained(folder)
    torch.save({"encoder.weight": torch.zeros(2)}, folder / "x.ckpt")
    with pytest.raises(ModelUnavailable, match="no CTC aligner"):
        table(aligner(folder))
    (folder / "x.ckpt").write_bytes(b"no weights")
    with pytest.raises(ModelUnavailable, match="cannot be read as weights"):
        table(aligner(folder, max_tokens=99))
    for wrong in ({"style": "regression"}, {"pool": "max"}):
        with pytest.raises(ValueError, match="is not known"):
            table(aligner(bert, **wrong))


# ---- pieces, identity, the stand-in ----------------------------------------------------------------------------------
edges = st.lists(st.integers(0, 12), max_size=8).map(lambda xs: sorted(set(xs)))


@given(edges, edges)
def test_words_and_pieces_against_every_pair(word_edges: list[int], piece_edges: list[int]) -> None:
    words = list(zip(word_edges[::2], word_edges[1::2], strict=False))
    pieces = list(pairwise(piece_edges))
    wanted = [[k for k, (c, d) in enumerate(pieces) if max(a, c) < min(b, d)] for a, b in words]
    assert words_of_pieces(words, pieces) == (wanted if wanted and all(wanted) else None)


def test_words_behind_a_cut_are_left_out() -> None:
    assert words_of_pieces([(0, 2), (3, 5), (6, 9)], [(0, 2), (3, 4)], cut=True) == [[0], [1]]
    assert words_of_pieces([(0, 2), (3, 5)], [(0, 2)]) is None
    assert words_of_pieces([(0, 1), (1, 2)], [(0, 2), (0, 2), (2, 2)]) == [[0, 1], [0, 1]]


def test_the_identity(bert: Path, roberta: Path) -> None:
    one, two = aligner(bert).identity(), aligner(roberta).identity()
    assert (one["style"], two["style"]) == ("embedding", "discriminative")
    assert json.loads(json.dumps([one, two])) == [one, two] and one["content"] != two["content"]
    assert aligner(bert, batch_tokens=9, pool="sum").identity() == one
    assert aligner(roberta, pool="sum").identity() != two != aligner(roberta, max_tokens=9).identity()
    assert Aligner().identity()["model"] == "embedded:minilm"


def test_the_stand_in() -> None:
    fake = Aligner(model="fake:aligner")
    assert fake.identity()["model"] == "fake:aligner"
    lines = table(fake)
    assert [line["status"] for line in lines] == ["ok"] * 4 + ["empty_response"] + ["ok"] * 2
    assert lines[0]["to_prompt"][2:5] == [1.0, 1.0, 1.0] and 0 <= lines[0]["to_prompt"][1] < 0.5
    seen: list[tuple[int, int]] = []
    list(fake.align(rows_of(ROWS), lambda done, total: seen.append((done, total))))
    assert seen[-1] == (7, 7)
