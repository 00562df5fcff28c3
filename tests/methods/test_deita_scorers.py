"""DEITA's scorers: the expected score by hand, what is asked turn by turn, and a model that really reads the prompt."""

import numpy as np
import polars as pl
import pytest

from assets.evaluators import scored_by
from methods.quality import deita_scorers as science
from resources.deita import DeitaScorers
from tests import tiny


def test_the_expected_score_of_the_specification():
    logits = np.array([[0, 0, 0, 0, np.log(2), np.log(2)]])
    assert science.expected(logits) == pytest.approx([4.0])
    assert science.expected(logits - 40.0) == pytest.approx([4.0])  # other tokens take the rest
    assert science.expected(np.array([[-np.inf] * 5 + [-3.0]])) == pytest.approx([6.0])
    assert np.isnan(science.expected(np.array([[np.nan, 0, 0, 0, 0, 0]]))).all()


def rows(*conversations):
    return pl.DataFrame(
        {
            "row_id": [f"r{i}" for i in range(len(conversations))],
            "messages": [[{"role": role, "content": text} for role, text in turns] for turns in conversations],
            "instruction": [turns[0][1] for turns in conversations],
            "input": [""] * len(conversations),
            "response": ["\n\n".join(t for r, t in turns if r == "assistant") for turns in conversations],
        }
    )


ONE = (("user", "Name {response} and {instruction}."), ("assistant", "The {instruction}."))
TWO = (("user", "Hi"), ("assistant", "Hello"), ("user", "Sing"), ("assistant", "La la"))
MUTE = (("user", "Hi"), ("assistant", " "))


def test_every_turn_is_asked_about_with_its_own_words():
    complexity, quality, counts = science.prompts_of(rows(ONE, TWO, MUTE))
    assert counts == [1, 2, 0]
    assert complexity[0].endswith("##Query: Name {response} and {instruction}.  \n##Complexity: ")
    assert "#Response#:\nThe {instruction}. \n##Quality: " in quality[0]
    assert "##Query: Sing" in complexity[2] and quality[2].endswith("#Response#:\nLa la \n##Quality: ")


def table(*reads):
    return science.gathered(["a", "b", "c"], [1, 2, 0], reads)


def logp(*scores):
    return np.log(np.eye(6)[[s - 1 for s in scores]] + 1e-300)


def test_scores_are_gathered_by_row_and_turn():
    found = table((logp(4, 2, 3), ["ok"] * 3), (logp(5, 1, 6), ["ok"] * 3))
    assert found["status"].to_list() == ["ok", "ok", "empty_response"]
    assert science.deita_scorers(found)["value"].to_list() == pytest.approx([20, 2 * 1 + 3 * 6, None])
    assert science.deita_complexity_scorer(found)["value"].to_list() == pytest.approx([4, 2.5, None])
    assert science.deita_quality_scorer(found)["value"].to_list() == pytest.approx([5, 3.5, None])


def test_what_could_not_be_read_has_no_score():
    found = table((logp(4, 2, 3), ["ok", "too_long", "ok"]), (np.full((3, 6), np.nan), ["ok"] * 3))
    assert found["status"].to_list() == ["no_answer", "too_long", "empty_response"]
    assert science.deita_scorers(found)["value"].null_count() == 3


def test_no_rows():
    assert science.gathered([], [], [(np.zeros((0, 6)), []), (np.zeros((0, 6)), [])]).is_empty()


def test_a_saved_model_is_read_at_the_first_token_behind_the_raw_prompt(tmp_path):
    import torch
    from transformers import AutoTokenizer

    text = science.COMPLEXITY + science.QUALITY + " 1 2 3 4 5 6 Hi Hello Sing La la"
    model = tiny.llama(tmp_path, tiny.tokenizer(tmp_path, text=text), max_position_embeddings=2048)
    scorers = DeitaScorers(complexity=str(tmp_path), quality=str(tmp_path), dtype="float32", device="cpu")
    found = scored_by(rows(TWO), scorers).row(0, named=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    digits = tokenizer.convert_tokens_to_ids(list(science.SCORES))
    for name, prompts in zip(("complexity", "quality"), science.prompts_of(rows(TWO)), strict=False):
        for prompt, score in zip(prompts, found[name], strict=True):
            with torch.no_grad():
                logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1, digits].double()
            assert score == pytest.approx(float(logits.softmax(0) @ torch.arange(1.0, 7.0).double()), abs=1e-4)
