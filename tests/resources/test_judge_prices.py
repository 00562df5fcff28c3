"""Prices, and what is said before anything is spent."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.judging.kinds import Cell
from resources import prices
from resources.answers import Answers, Used
from resources.judge import Judge
from resources.prices import Price, PriceError, guess, most_tokens, price_of, tokens_of
from tests import misbehaving
from tests.misbehaving import served

REMOTE = "https://judge.example/v1"


def table(home: Path, text: str) -> Path:
    (home / "prices.yaml").write_text(text, encoding="utf-8")
    return home


# ---- the table -----------------------------------------------------------------------------------------------------


def test_what_a_call_costs() -> None:
    assert Price(2.5, 10.0, 0.5).of(1_000_000, 100_000) == 3.5
    assert Price(2.5, 10.0, 0.5).of(1_000_000, 100_000, batch=True) == 1.75


@pytest.mark.parametrize(
    ("model", "input_", "output"),
    [
        ("gpt-4o", 2.5, 10.0),
        ("gpt-4o-2024-08-06", 2.5, 10.0),
        ("gpt-4o-2024-05-13", 5.0, 15.0),  # a line of its own
        ("gpt-4o-mini", 0.15, 0.6),
        ("gpt-4o-mini-2024-07-18", 0.15, 0.6),
        ("gpt-3.5-turbo-0125", 0.5, 1.5),
        ("gpt-3.5-turbo-0613", 1.5, 2.0),
    ],
)
def test_the_price_of_a_model_and_of_its_dated_versions(model: str, input_: float, output: float) -> None:
    price = price_of(model, "")
    assert price is not None and (price.input, price.output) == (input_, output)


@pytest.mark.parametrize(
    "model", ["gpt-4o-audio-preview", "gpt-3.5-turbo-16k", "gpt-4", "gpt", "ft:gpt-4o:me", "o9", ""]
)
def test_a_model_with_a_similar_name_has_no_price(model: str) -> None:
    assert price_of(model, REMOTE) is None


def test_judges_on_this_machine_cost_nothing() -> None:
    for model, url in (
        ("m", "http://127.0.0.1:8000/v1"),
        ("m", "http://localhost/v1"),
        ("fake:x", ""),
        ("local:x", ""),
    ):
        assert price_of(model, url) == Price(0.0, 0.0)


def test_the_table_of_a_home_comes_first(tmp_path: Path) -> None:
    home = table(tmp_path, "gpt-4o: {input: 1, output: 2}\nmine: {input: 0.5, output: 0, batch: 0.25}\n")
    assert price_of("gpt-4o", "", home) == Price(1.0, 2.0)
    assert price_of("mine", "http://127.0.0.1/v1", home) == Price(0.5, 0.0, 0.25)  # a proxy to somebody who charges
    assert price_of("gpt-4o-mini", "", home) == Price(0.15, 0.6, 0.5)
    assert price_of("gpt-4o", "", tmp_path / "empty") == Price(2.5, 10.0, 0.5)
    assert price_of("mine", REMOTE, table(tmp_path, "")) is None


@pytest.mark.parametrize(
    ("text", "entry", "word"),
    [
        ("mine: 3", "mine", "give input and output"),
        ("mine: {input: 1}", "mine", "give input and output"),
        ("mine: {input: 1, output: 2, prompt: 3}", "mine", "give input and output"),
        ("a: {input: 1, output: 2}\nmine: {input: free, output: 2}", "mine", "input is 'free'; give a number"),
        ("mine: {input: -1, output: 2}", "mine", "input is -1"),
        ("mine: {input: .nan, output: 2}", "mine", "input is nan"),
        ("mine: {input: true, output: 2}", "mine", "input is True"),
        ("- mine", "", "one a line"),
        ("mine: {input: 1", "", "not valid YAML"),
    ],
)
def test_a_table_with_a_mistake_is_refused_by_file_and_entry(tmp_path: Path, text: str, entry: str, word: str) -> None:
    with pytest.raises(PriceError, match=word) as error:
        price_of("other", REMOTE, table(tmp_path, text))
    assert f"{tmp_path / 'prices.yaml'}: {entry}" in str(error.value)


def test_a_table_that_is_no_text_is_refused_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(PriceError, match=str(tmp_path)):
        price_of("m", REMOTE, tmp_path)


# ---- tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("cat", 1),
        ("the cat", 2),
        ("internationally", 3),
        ("12345", 2),
        ("a,b", 3),
        ("a_b", 3),
        ("a\n\n\nb", 3),
    ],
)
def test_the_guess_of_tokens_by_hand(text: str, tokens: float) -> None:
    assert tokens_of(text) == tokens


def test_other_scripts_take_more() -> None:
    assert tokens_of("春天来了") == pytest.approx(4.8)
    assert tokens_of("книга") == pytest.approx(3.0)


@given(st.lists(st.tuples(st.sampled_from(["system", "user"]), st.text(max_size=60)), max_size=4), st.booleans())
def test_no_vocabulary_of_bytes_makes_more_of_a_request_than_its_bound(messages, schema: bool) -> None:
    cell = Cell("r", "", tuple(messages), schema={"type": "object", "title": "ä" * 20} if schema else None)
    around = 100 + 10 * len(messages)  # a chat format with a system prompt of its own
    assert most_tokens(cell) >= around + sum(len(content.encode()) for _, content in messages) + 40 * schema
    assert 0 < prices.prompt_tokens(cell) <= most_tokens(cell)


def test_a_guess_goes_by_these_cells_where_enough_are_known_else_by_the_question() -> None:
    assert guess([], {"a"}) == prices.Guess()
    others = [Used(f"o{i}", 10.0, 20, 5, 1.0) for i in range(30)]
    here = [Used(f"h{i}", 10.0, 10, 50, 4.0) for i in range(10)]
    keys = {used.key for used in here}
    by_here, by_all = guess(others + here, keys), guess(others + here[:9], keys)
    assert (by_here.ratio, by_here.completion, by_here.seconds, by_here.counted) == (1.0, 50.0, 4.0, 10)
    assert (by_all.ratio, by_all.counted) == (690 / 390, 39)
    cell = Cell("r", "", (("user", "word"),), max_tokens=20)
    assert by_here.answer(cell) == 20.0 and by_here.prompt(cell) == prices.prompt_tokens(cell)


# ---- estimates -----------------------------------------------------------------------------------------------------


def rows(n: int, words: list[str]) -> list[Cell]:
    """Rows of very different lengths."""
    rng = random.Random(7)
    said = (" ".join(rng.choices(words, k=int(rng.lognormvariate(4, 0.8)))) for _ in range(n))
    start = "You judge how well a response answers an instruction. Give a score from 1 to 5 and explain it. "
    return [Cell(f"r{i}", "", (("system", start * 3), ("user", f"Row {i}: {text}"))) for i, text in enumerate(said)]


ENGLISH = "the quick characteristics of an international organisation, in 1987 and 2,300 others: remarkably so.".split()
CHINESE = "春天来了 公园里的花都开了 孩子们 在草地上奔跑 老人们 坐在长椅上 聊天".split()
CODE = "def f(x_1): return {'a': [1, 2]} if x_1 >= 0x1F else None  # noqa".split(" ")


@pytest.mark.parametrize(("words", "blind"), [(ENGLISH, 0.6), (CHINESE, 0.9), (CODE, 0.6)])
def test_after_a_pilot_of_twenty_the_cost_of_five_hundred_is_foretold_within_a_tenth(
    tmp_path: Path, words: list[str], blind: float
) -> None:
    asked, price = rows(500, words), Price(2.5, 10.0)
    with Answers(tmp_path / "j") as store, served(completion=40) as server:
        judge = Judge(url=server.url, model="m")
        first = judge.estimate(asked, store, "q", price)
        judge.ask(asked[:20], store, "q", None, price)
        told = judge.estimate(asked, store, "q", price)
        paid = store.bill().cost or 0.0
        judge.ask(asked, store, "q", None, price)
        counted = server.counted
    cost = price.of(counted.prompt_tokens, counted.completion_tokens)
    assert counted.calls == 500 and (first.calls, told.calls, told.known, told.counted) == (500, 480, 20, 20)
    assert abs(paid + (told.cost or 0.0) - cost) <= 0.1 * cost
    assert first.counted == 0 and abs((first.cost or 0.0) - cost) <= blind * cost  # a guess, and no more
    pieces = misbehaving.tokens(asked[0].messages[1][1])
    assert pieces != round(tokens_of(asked[0].messages[1][1]))  # the server does not count as the guess does


def test_an_estimate_says_what_asking_would_do(tmp_path: Path) -> None:
    asked = [Cell(f"r{i}", "", (("user", f"Row {i % 8}"),), 50) for i in range(12)]
    with Answers(tmp_path / "j") as store, served() as server:
        judge = Judge(url=server.url, model="m")
        told = judge.estimate(asked, store, "q")
        assert (told.cells, told.known, told.calls, told.cost) == (12, 0, 8, None)
        assert told.prompt_tokens == round(sum(prices.prompt_tokens(cell) for cell in asked[:8]))
        assert told.completion_tokens == 8 * 50  # no answer is longer than it may be
        judge.ask(asked[:2], store, "q")
        told = judge.estimate(asked, store, "q")
        assert (told.cells, told.known, told.calls) == (12, 4, 6)
        judge.ask(asked, store, "q")
        assert server.counted.calls == 8
        told = judge.estimate(asked, store, "q", Price(1.0, 1.0))
        assert (told.calls, told.cost, told.seconds) == (0, 0.0, 0.0)


def test_time_is_that_of_the_narrowest_limit(tmp_path: Path) -> None:
    asked = [Cell(f"r{i}", "", (("user", f"Row {i}"),), 50) for i in range(120)]
    with Answers(tmp_path / "j") as store:
        assert Judge(model="m", concurrency=8).estimate(asked, store, "q").seconds == 30.0
        assert Judge(model="m", requests_per_minute=60).estimate(asked, store, "q").seconds == 120.0
        told = Judge(model="m", tokens_per_minute=600).estimate(asked, store, "q")
        assert told.seconds == pytest.approx(60 * (told.prompt_tokens + told.completion_tokens) / 600, rel=0.01)
