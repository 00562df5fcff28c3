"""The language of a text, offline."""

from __future__ import annotations

import subprocess
import sys

import pytest

from methods.filters.language import LEAST, UNKNOWN, identify

KNOWN = [
    ("en", "The quick brown fox jumps over the lazy dog and runs away."),
    ("fr", "Je ne comprends pas pourquoi il est parti si tôt hier soir."),
    ("de", "Ich weiß nicht, warum er gestern so früh gegangen ist."),
    ("es", "No entiendo por qué se fue tan temprano ayer por la noche."),
    ("ru", "Я не понимаю, почему он так рано ушёл вчера вечером."),
    ("el", "Δεν καταλαβαίνω γιατί έφυγε τόσο νωρίς χθες το βράδυ."),
    ("ar", "لا أفهم لماذا غادر مبكرا جدا مساء أمس."),
    ("hi", "मुझे समझ नहीं आता कि वह कल शाम इतनी जल्दी क्यों चला गया।"),
    ("th", "ฉันไม่เข้าใจว่าทำไมเขาถึงออกไปเร็วขนาดนั้นเมื่อคืนนี้"),
    ("he", "אני לא מבין למה הוא הלך כל כך מוקדם אתמול בערב."),
    ("zh", "我不明白他昨晚为什么这么早就走了。"),
    ("ja", "彼が昨夜なぜそんなに早く帰ったのか分かりません。"),
    ("ko", "그가 어젯밤 왜 그렇게 일찍 떠났는지 모르겠어요."),
]


def test_languages_and_scripts() -> None:
    found = identify([text for _, text in KNOWN])
    assert [code for code, _ in found] == [code for code, _ in KNOWN]
    assert all(LEAST <= p <= 1 for _, p in found)


@pytest.mark.parametrize(
    "text", ["", None, "   ", "42", "x = 7", "Yes", "?!", "😀😀", "3.14159 * 2", "```\nprint(the_end)\n```"]
)
def test_too_little_to_tell(text: str | None) -> None:
    code, p = identify([text])[0]
    assert code == UNKNOWN and 0 <= p < LEAST


def test_short_texts_in_a_script_of_their_own() -> None:
    assert [code for code, _ in identify(["你好", "はい", "네", "パリ"])] == ["zh", "ja", "ko", "ja"]


def test_words_of_another_script_do_not_decide() -> None:
    texts = ["The word 你好 means hello, and people say it to each other all day long.", "请用 Python 写一个函数"]
    assert [code for code, _ in identify(texts)] == ["en", "zh"]


def test_code_is_not_language() -> None:
    text = "```python\nfor word in the_list_of_words:\n    print(word)\n```\nВот программа, которая печатает все слова из списка."
    assert identify([text])[0][0] == "ru"


def test_the_answer_for_a_text_does_not_depend_on_the_others() -> None:
    texts = [text for _, text in KNOWN]
    assert identify(texts) == [identify([text])[0] for text in texts]
    assert identify([]) == []


def test_long_texts_are_capped() -> None:
    assert identify(["This is a plain English sentence. " * 20000])[0][0] == "en"


def test_the_model_is_not_loaded_by_an_import() -> None:
    code = "import sys, methods.filters.language, methods.filters.rules; print('py3langid' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
