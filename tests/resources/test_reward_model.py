"""Rewards against a plain forward pass of tiny models, pair by pair; cuts, padding, memory, and models that are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resources import models, reward_model
from resources.from_env import reward_model_from_env
from resources.reward_model import RewardModel, stand_in

CHAT = (
    "{% for m in messages %}{% if m['content'] == 'refuse' %}{{ raise_exception('no') }}{% endif %}"
    "<s>{{ m['role'] }} {{ m['content'] }}</s>{% endfor %}"
)
LINES = ["the cat sat on the mat and ran", "who sat there ? a dog did .", "user assistant refuse river garden"] * 3
PAIRS = [
    ("who sat there ?", "the cat did ."),
    ("who ran ?", "a dog and the cat ran on the mat and the garden ."),
    ("", "the river"),
    ("the cat sat on the mat and the dog sat on the mat", "no"),
    ("who sat there ?", "a dog did ."),
]


def tokenizer(folder: Path, chat: bool = False, pad: str = "[PAD]") -> int:
    """A tokenizer of whole words, trained on a few lines, saved to the folder; returns how many tokens it knows."""
    from tokenizers import Tokenizer, pre_tokenizers, processors, trainers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    rust = Tokenizer(WordLevel(unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<s>", "</s>"]
    rust.train_from_iterator(LINES, trainers.WordLevelTrainer(special_tokens=special))
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token=pad, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", eos_token="</s>",
        additional_special_tokens=["<s>"], model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
    if chat:
        made.chat_template = CHAT
    made.save_pretrained(folder)
    return len(made)


def bert(folder: Path, labels: int = 1) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer(folder), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, num_labels=labels, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def deberta(folder: Path) -> Path:
    import torch
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    torch.manual_seed(1)
    config = DebertaV2Config(
        vocab_size=tokenizer(folder), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, num_labels=1, initializer_range=0.5, type_vocab_size=0, relative_attention=True,
        pos_att_type=["p2c", "c2p"], position_biased_input=False, max_relative_positions=-1, pooler_hidden_size=16,
    )  # fmt: skip
    DebertaV2ForSequenceClassification(config).save_pretrained(folder)
    return folder


def llama(folder: Path, pad: str = "[PAD]", pad_in_config: bool = True) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(2)
    size = tokenizer(folder, chat=True, pad=pad)
    config = LlamaConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, max_position_embeddings=64, num_labels=1, initializer_range=0.5,
        pad_token_id=0 if pad_in_config else None,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = tmp_path_factory.mktemp("rewards")
    return {
        "bert": bert(made / "bert"),
        "two": bert(made / "two", labels=2),
        "three": bert(made / "three", labels=3),
        "deberta": deberta(made / "deberta"),
        "llama": llama(made / "llama"),
        "unpadded": llama(made / "unpadded", pad="</s>", pad_in_config=False),
    }


def plain(folder: Path, pairs: list[tuple[str, str]], limit: int = 64) -> list[float]:
    """The oracle: one pair at a time through the model, as its card says."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for question, answer in pairs:
        if made.chat_template:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            given = {"input_ids": made.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"]}
            given["input_ids"] = given["input_ids"][:, :limit]
        else:
            given = made(question, answer, return_tensors="pt", truncation=True, max_length=limit)
        with torch.no_grad():
            logits = model(**given).logits[0]
        found.append(float(logits[1] - logits[0] if len(logits) == 2 else logits[0]))
    return found


def rewards(folder: Path, **fields: Any) -> RewardModel:
    return RewardModel(**{"model": str(folder), "device": "cpu", **fields})


@pytest.mark.parametrize("name", ["bert", "two", "deberta", "llama", "unpadded"])
def test_batches_give_what_one_pair_at_a_time_gives(folders: dict[str, Path], name: str) -> None:
    theirs = plain(folders[name], PAIRS)
    mine, status = rewards(folders[name]).scores(PAIRS)
    assert status == ["ok"] * len(PAIRS) and mine.dtype == np.float64
    np.testing.assert_allclose(mine, theirs, atol=1e-4)
    assert len({round(one, 3) for one in theirs}) == len(PAIRS)  # otherwise the comparison says little
    alone = [float(rewards(folders[name]).scores([pair])[0][0]) for pair in PAIRS]
    np.testing.assert_allclose(alone, theirs, atol=1e-4)


def test_the_two_texts_are_told_apart(folders: dict[str, Path]) -> None:
    model = rewards(folders["bert"])
    (there, back), _ = model.scores([("the cat", "a dog"), ("a dog", "the cat")])
    assert abs(there - back) > 1e-3


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_long_pairs_are_cut_and_said_to_be(folders: dict[str, Path], name: str) -> None:
    mine, status = rewards(folders[name], max_tokens=10).scores(PAIRS)
    whole = [len(one) for one in _lengths(folders[name])]
    assert status == ["truncated" if length > 10 else "ok" for length in whole] and set(status) == {"ok", "truncated"}
    np.testing.assert_allclose(mine, plain(folders[name], PAIRS, 10), atol=1e-4)
    longest = [("the cat sat " * 40, "a dog did . " * 40)]  # the model has 64 places, whatever is asked for
    mine, status = rewards(folders[name], max_tokens=4096).scores(longest)
    assert status == ["truncated"] and np.isfinite(mine).all()


def _lengths(folder: Path) -> list[list[int]]:
    from transformers import AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(folder)
    if not made.chat_template:
        return [made(*pair)["input_ids"] for pair in PAIRS]
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in PAIRS]
    return [made.apply_chat_template(one, return_dict=True)["input_ids"] for one in turns]


def test_places_that_are_counted_from_behind_the_padding(tmp_path: Path) -> None:
    """RoBERTa's kin have fewer places than their configuration says."""
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(3)
    config = RobertaConfig(
        vocab_size=tokenizer(tmp_path), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
        intermediate_size=32, max_position_embeddings=20, type_vocab_size=2, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    mine, status = rewards(tmp_path).scores([("the cat sat " * 10, "a dog did . " * 10), PAIRS[0]])
    assert status == ["truncated", "ok"]
    long = plain(tmp_path, [("the cat sat " * 10, "a dog did . " * 10)], limit=19)
    np.testing.assert_allclose(mine, [*long, *plain(tmp_path, PAIRS[:1])], atol=1e-4)


def test_an_empty_answer_and_a_refused_question_have_no_reward(folders: dict[str, Path]) -> None:
    asked = [("who ran ?", "  "), ("refuse", "the cat"), PAIRS[0]]
    mine, status = rewards(folders["llama"]).scores(asked)
    assert status == ["empty_response", "template_mismatch", "ok"]
    assert np.isnan(mine[:2]).all() and mine[2] == pytest.approx(plain(folders["llama"], PAIRS[:1])[0], abs=1e-4)
    assert rewards(folders["llama"]).scores([])[1] == []


def test_a_batch_that_does_not_fit_is_halved(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = reward_model._forward
    sizes = []

    def small(model: Any, batch: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 1 or len(batch[0].tokens) > 15:
            raise MemoryError
        return whole(model, batch)

    monkeypatch.setattr(reward_model, "_forward", small)
    mine, status = rewards(folders["bert"]).scores(PAIRS)
    expected = ["out_of_memory" if len(one) > 15 else "ok" for one in _lengths(folders["bert"])]
    assert status == expected and set(expected) == {"ok", "out_of_memory"} and max(sizes) > 1
    fine = [at for at, said in enumerate(status) if said == "ok"]
    np.testing.assert_allclose(mine[fine], [plain(folders["bert"], PAIRS)[at] for at in fine], atol=1e-4)
    assert np.isnan(np.delete(mine, fine)).all()


def test_what_is_no_reward_model_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    with pytest.raises(models.ModelUnavailable, match="3 outputs"):
        rewards(folders["three"]).scores(PAIRS)
    torch.manual_seed(0)
    size = tokenizer(tmp_path)
    few: Any = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=size, **few)).save_pretrained(tmp_path)
    with pytest.raises(models.ModelUnavailable, match="random numbers"):
        rewards(tmp_path).scores(PAIRS)
    with pytest.raises(models.ModelUnavailable, match="no chat template"):
        rewards(folders["bert"], style="chat").scores(PAIRS)
    with pytest.raises(ValueError, match="style='both'"):
        rewards(folders["bert"], style="both").scores(PAIRS)
    for none in ("", "preference_head"):
        with pytest.raises(ValueError, match="names no reward model"):
            RewardModel(model=none).scores(PAIRS)


def test_a_template_can_be_left_aside(folders: dict[str, Path]) -> None:
    chat, pair = (rewards(folders["llama"], style=style).scores(PAIRS)[0] for style in ("chat", "pair"))
    assert np.isfinite(pair).all() and not np.allclose(chat, pair, atol=1e-3)


def test_identity_says_what_the_rewards_depend_on(folders: dict[str, Path]) -> None:
    assert RewardModel().identity() == {}
    assert RewardModel(model="preference_head").identity() == {"model": "preference_head"}
    one = rewards(folders["bert"]).identity()
    assert one["model"] == "bert" and one["dtype"] == "float32" and one["max_tokens"] == 512
    others = [
        rewards(folders["two"]),
        rewards(folders["bert"], max_tokens=64),
        rewards(folders["bert"], style="pair"),
        rewards(folders["bert"], dtype="bfloat16"),
        RewardModel(model="fake:reward"),
    ]
    assert all(other.identity() != one for other in others)
    assert rewards(folders["bert"], device="auto", batch_tokens=7).identity() == one


def test_the_stand_in() -> None:
    mine, status = RewardModel(model="fake:reward", max_tokens=8).scores([*PAIRS, ("who ?", "")])
    assert status == ["ok", "truncated", "ok", "ok", "ok", "empty_response"]
    assert np.isfinite(mine[:-1]).all() and np.isnan(mine[-1])
    assert stand_in("who sat ?", "the cat sat") == stand_in("who sat ?", "the cat sat")
    assert stand_in("who sat ?", "the cat sat") != stand_in("who sat ?", "the dog sat")
    assert stand_in("a b c d", "a b", max_tokens=3) == (stand_in("a b c d", "a")[0], "truncated")
    assert stand_in("a", "b c", max_tokens=2) == (stand_in("a", "b")[0], "truncated")


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_REWARD_MODEL", raising=False)
    assert reward_model_from_env().model == ""
    for said, meant in (
        ("fake", "fake:reward"),
        ("fake:other", "fake:other"),
        (" preference_head ", "preference_head"),
    ):
        monkeypatch.setenv("SLUICE_REWARD_MODEL", said)
        assert reward_model_from_env().model == meant
