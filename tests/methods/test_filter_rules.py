"""Each rule with rows that it must drop and rows, close to those, that it must not."""

from __future__ import annotations

import polars as pl
import pytest

from methods.filters.config import RULE_IDS, FilterConfig
from methods.filters.contamination import target_ngrams
from methods.filters.rules import JUDGED, RULES, judge_rows

PROSE = (
    "The town lies on the river and has been a place of trade for many hundred years. Its market is held on Saturdays. "
    "People come from the villages around it to sell fruit, cheese and bread. In winter the square is used for skating, "
    "and in summer there are concerts in the evening. Most of the houses were built of the stone that is found nearby."
)
SALAD = (
    "purple engine window Thursday gravel monkey seldom opera carpet thunder velvet planet sausage marble lantern "
    "orchard pistol ribbon saddle tunnel umbrella violin whisper yellow zebra anchor barrel candle dolphin eagle "
    "feather guitar hammer island jacket kettle ladder magnet needle oyster pepper quarrel rabbit salmon"
)


def row(prompt: str, response: str | None, extra: str | None = "") -> dict[str, str | None]:
    return {"row_id": "r", "instruction": prompt, "input": extra, "response": response}


def judged(*rows: dict[str, str | None], config: FilterConfig | None = None, **given: object) -> pl.DataFrame:
    kinds = {name: pl.String for name in ("row_id", "instruction", "input", "response")}
    return judge_rows(pl.DataFrame(list(rows), schema=kinds), config, **given)  # type: ignore[arg-type]


BAD = {
    "empty": [row("Say hi", ""), row("Say hi", " \n\t"), row("Say hi", None), row("", "Hello"), row("  ", "Hello", None)],
    "too_short": [row("Say hi", '"""'), row("Say hi", "..."), row("Say hi", "```"), row("Say hi", "-")],
    "too_long": [row("Go on", "word and another " * 4000)],
    "encoding": [
        row("Say hi", "Hello \ufffd\ufffd\ufffd you"),
        row("Say hi", "Itâ€™s fine, donâ€™t worry"),
        row("Capital?", "SÃ£o Paulo Ã© uma cidade, nÃ£o um paÃ­s"),
        row("Say hi", "Hello\x00\x01\x02 you"),
    ],
    "boilerplate": [
        row("Draw a cat", "<noinput>"), row("Draw a cat", "<nooutput> - cannot draw"), row("Draw", "[Your answer here]"),
        row("Draw a cat", "No output."), row("Sum it up", "It is good.\n### Instruction: Write a poem"),
        row("Sum it up", "It is good.<|im_end|>"), row("Sum it up", "Output:"), row("x", "[INST] x [/INST] y"),
    ],
    "refusal": [
        row("How?", "I'm sorry, but I can't assist with that request."),
        row("How?", "I’m sorry, but I cannot provide that information."),
        row("Weather?", "As an AI language model, I do not have access to current weather data."),
        row("Favourite colour?", "As an AI, I don't have personal preferences, but many people like blue."),
        row("Edit the sound", "Sorry, the task involves audio editing which the model cannot currently do."),
        row("News?", "Unfortunately, I don't have access to the internet."),
        row("How?", "I cannot fulfill this request."),
        row("最新新闻?", "很抱歉，我无法提供最新的新闻。"),
        row("你喜欢什么?", "作为一个人工智能语言模型，我没有个人喜好。"),
        row("¿Noticias?", "Lo siento, pero no puedo ayudarte con eso."),
        row("Nouvelles ?", "Je suis désolé, mais je ne peux pas répondre à cette question."),
        row("Nachrichten?", "Es tut mir leid, aber ich kann diese Frage nicht beantworten."),
        row("Notícias?", "Desculpe, mas não posso ajudar com isso."),
        row("Notizie?", "Mi dispiace, ma non posso aiutarti con questo."),
        row("Новости?", "Извините, но я не могу ответить на этот вопрос."),
        row("ニュースは?", "申し訳ありませんが、その質問にはお答えできません。"),
        row("뉴스는?", "죄송합니다. 그 질문에는 답변할 수 없습니다."),
    ],
    "language_mismatch": [
        row("安排明天上午10点的会议。", "Certainly, I will schedule a meeting for you tomorrow at ten and tell the others."),
        row("Why is the sky blue in the daytime?", "Der Himmel ist blau, weil die Luft das blaue Licht stärker streut als das rote."),
        row("Why is the sky blue?", "天空之所以是蓝色的，是因为空气分子对蓝光的散射比红光更强。"),
    ],
    "repetition": [
        row("Tell me a story", "I went to the shop and then I went to the shop and then " * 12),
        row("Tell me a story", "Once there was " + "very " * 40 + "much rain"),
        row("讲一个故事", "从前有一座山，山上有一座庙。" * 15),
    ],
    "gibberish": [
        row("Tell me a story", SALAD),
        row("Tell me a story", "sdfkjh wqrtzp xcvbnm lkjhgf dfghjk the mnbvcx qwrtzp fine"),
    ],
    "truncated": [
        row("Describe a town", PROSE + " It is known for the beauty of the bridge that crosses the"),
        row("Describe a town", PROSE + " It is known for its bridge, for its church, for its market and"),
        row("Write code", "Here it is:\n```python\nprint(1)\n"),
    ],
}  # fmt: skip

GOOD = [
    row("What is 6 times 7?", "42"), row("Capital of France?", "Paris."), row("Fitting emoji?", "😆"), row("Sign?", "+"),
    row("A smiley", ":-)"), row("SOS in Morse", "··· --- ···"), row("Capital of China?", "北京"), row("Which?", "B"),
    row("Say hi", "hi", None), row("Write regex", "^.*$"),
    row("Explain U+FFFD", "The replacement character \ufffd stands where a decoder met bytes that it could not read. " + PROSE),
    row("Escreva sobre São Paulo", "São Paulo é uma cidade grande no Brasil e não é a capital do país."),
    row("What does print(None) print?", "None"), row("Fill in the form: middle name", "N/A"),
    row("What marks does ChatML use?", "It uses <|im_start|> and <|im_end|> around turns.", "<|im_start|> and <|im_end|>"),
    row("Write an apology", "I'm sorry, I can't come to the meeting today, I'm feeling under the weather."),
    row("Excuse for work", "I'm sorry, but I'm unable to come into work today because I woke up with a fever."),
    row("A kind word", "I'm sorry to hear that you are feeling lonely. Would you like to talk about it?"),
    row("Complain", "Unfortunately, the goods that I ordered were damaged when they arrived."),
    row("Role play", "I can't believe it! Against all odds we have found water on this planet."),
    row("Security tip", "I cannot emphasize enough how important strong passwords are."),
    row("What do models say when they refuse?", "They often say: I'm sorry, but I can't assist with that request."),
    row("Who are you?", "I am an AI assistant made to answer questions about history."),
    row("Jobs?", "As an AI researcher, I work on learning systems and do not teach many classes."),
    row("学生看病", "作为一个本科生，去专科医院看病主要是因为那里的医生更有经验。"),
    row("写一封道歉信", "对不起，昨天我忘记了你的生日，请原谅我。"),
    row("Translate to French: I do not understand why he left.", "Je ne comprends pas pourquoi il est parti hier soir."),
    row("把这句话翻译成英文：我昨天去了公园。", "I went to the park yesterday with my whole family."),
    row("Sum up the text", "Le chat dort toute la journée sur le canapé du salon.",
        "Le chat dort toute la journée sur le canapé. Il ne bouge que pour manger et pour boire."),
    row("List the first elements.", "Hydrogen, Helium, Lithium, Beryllium, Boron, Carbon, Nitrogen, Oxygen, Fluorine, Neon"),
    row("写一个函数", "```python\ndef add(a, b):\n    return a + b\n```"),
    row("Make a feature vector", "[" + "1, 0, 0, 0, 0, 0, 0, " * 12 + "1]"),
    row("Repeat the word very 40 times", "very " * 40),
    row("Write a song", "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream."),
    row("List fruit", "apple, banana, cherry, date, elderberry, fig, grape, honeydew, kiwi, lemon, mango, nectarine, orange, "
        "papaya, quince, raspberry, strawberry, tangerine, watermelon, apricot, blackberry, blueberry, cranberry, currant, "
        "guava, lime, lychee, melon, olive, peach, pear, pineapple, plum, pomegranate, tomato, coconut, passionfruit, mulberry"),
    row("Write HTML", "<html>\n<body>\n<h1>Title</h1>\n<html>\n</html>\n<html>\n</html>\n</body>\n</html>"),
    row("Describe a town", PROSE), row("Describe a town", PROSE + "\n\nBest regards,\nAnna"),
    row("Describe a town", PROSE + "\n\nThings to see:\n- the bridge\n- the church and the houses that lie around it, and the"),
    row("Write a letter", PROSE + "\n\nYours sincerely,"),
    row("Write code", "Here it is:\n```python\nprint(1)\n```"), row("How to quote?", "```ls``` lists and ```cd``` changes it"),
    row("描述一个城镇", "这个小镇位于河边，几百年来一直是贸易的地方，每个星期六都有集市"),
]  # fmt: skip


@pytest.mark.parametrize("rule", sorted(BAD))
def test_bad_rows_are_dropped_with_their_reason(rule: str) -> None:
    found = judged(*BAD[rule])
    assert found["rule"].to_list() == [rule] * len(BAD[rule])
    assert found["detail"].null_count() == 0 and (found["detail"].str.len_chars() > 10).all()


def test_good_rows_stay() -> None:
    found = judged(*GOOD)
    wrong = [(case["response"], rule, detail) for case, rule, detail in zip(GOOD, found["rule"], found["detail"], strict=True)
             if rule is not None]  # fmt: skip
    assert wrong == [] and found["detail"].null_count() == len(GOOD)


def test_details_carry_the_numbers() -> None:
    found = judged(row("Hi", "..."), row("Hi", ""), row("Hi", "two words"), config=FilterConfig(least_words=3))
    assert found["detail"].to_list() == [
        "response has 0 words (at least 3)", "the response is empty", "response has 2 words (at least 3)",
    ]  # fmt: skip


def test_the_first_rule_names_the_reason_and_the_others_are_flags() -> None:
    found = judged(row("Draw", "<noinput>", "<noinput>"), row("Add", "7", "<noinput>"), row("Add 3 and 4", "7"))
    assert found["rule"].to_list() == ["boilerplate", None, None]
    assert found["flags"].to_list() == [["placeholder_input"], ["placeholder_input"], []]


def test_rules_can_be_switched_off_or_turned_into_flags() -> None:
    bad = row("How?", "I'm sorry, but I can't assist with that request.")
    off = judged(bad, config=FilterConfig(disabled=("refusal",)))
    assert off["rule"].to_list() == [None] and off["flags"].to_list() == [[]]
    flagged = judged(bad, config=FilterConfig(flag_only=("refusal",)))
    assert flagged["rule"].to_list() == [None] and flagged["flags"].to_list() == [["refusal"]]
    every = judged(bad, row("", ""), config=FilterConfig(disabled=RULE_IDS))
    assert every["rule"].to_list() == [None, None] and every["flags"].to_list() == [[], []]


def test_wanted_languages() -> None:
    config = FilterConfig(languages=("fr",), disabled=("language_mismatch",))
    found = judged(row("Parle-moi du parc", "Je suis allé au parc hier avec toute ma famille."),
                   row("Tell me of the park", "I went to the park yesterday with all my family."), row("2+2", "4"),
                   config=config)  # fmt: skip
    assert found["language"].to_list() == ["fr", "en", "und"]
    assert found["rule"].to_list() == [None, "language", None]
    assert found["flags"].to_list() == [[], [], ["language_unsure"]]
    assert "'en'" in found["detail"][1] and "fr" in found["detail"][1]


def test_leaked_rows_need_targets() -> None:
    item = "A baker sells twelve loaves each morning and seven more after lunch, so how many does she sell in a week?"
    bad = row(item, "She sells 133 loaves.")
    assert judged(bad)["rule"].to_list() == [None]
    found = judged(bad, row("How many?", "Four."), targets=target_ngrams([item], ids=["bread-1"]))
    assert found["rule"].to_list() == ["leaked", None] and "bread-1" in found["detail"][0]


def test_few_garbled_characters_are_a_flag() -> None:
    found = judged(row("Describe a town", PROSE + " It has a caf\ufffd."))
    assert found["rule"].to_list() == [None] and found["flags"].to_list() == [["garbled"]]


def test_an_open_end_without_a_telling_word_is_a_flag() -> None:
    found = judged(row("Describe a town", PROSE + " Many of its visitors come here to see the old bridge"))
    assert found["rule"].to_list() == [None] and found["flags"].to_list() == [["no_full_stop"]]


def test_a_verdict_does_not_depend_on_the_other_rows() -> None:
    rows = [case for cases in BAD.values() for case in cases] + GOOD
    together = judged(*rows)
    apart = pl.concat([judged(case) for case in rows[::7]])
    assert together.gather_every(7).equals(apart)


def test_no_rows() -> None:
    found = judged()
    assert found.height == 0 and dict(found.schema) == JUDGED


def test_the_list_of_rules_is_the_list_of_ids() -> None:
    assert tuple(rule.id for rule in RULES) == RULE_IDS
    settings = set(FilterConfig().as_dict()) - {"disabled", "flag_only"}
    assert {name for rule in RULES for name in rule.params} == settings


def test_config_as_plain_data() -> None:
    config = FilterConfig.from_dict({"least_words": 2, "languages": ["en", "de"], "repetition_share": 1})
    assert config == FilterConfig(least_words=2, languages=("en", "de"), repetition_share=1.0)
    assert FilterConfig.from_dict(config.as_dict()) == config
    assert FilterConfig.from_dict({}) == FilterConfig()


@pytest.mark.parametrize(
    "values, words",
    [({"least_word": 2}, "least_word"), ({"least_words": "2"}, "least_words"), ({"least_words": 1.5}, "least_words"),
     ({"most_words": -1}, "most_words"), ({"repetition_share": 1.5}, "repetition_share"), ({"languages": "en"}, "languages"),
     ({"disabled": ["nonsense"]}, "nonsense"), ({"flag_only": [3]}, "flag_only"), ({"most_words": True}, "most_words"),
     ({"leak_overlap": float("nan")}, "leak_overlap")],
)  # fmt: skip
def test_config_errors_name_the_key(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FilterConfig.from_dict(values)
