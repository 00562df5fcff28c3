"""One call: what is sent, what each outcome means, and that nothing secret is repeated."""

import asyncio
import json
import logging
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.judging.kinds import API_ERROR, OK, PARSE_ERROR, REFUSED, TRUNCATED, Answer, Cell
from resources.judge_calls import Endpoint, Failed, JudgeUnavailable, Remote, declined, read, request
from tests import misbehaving
from tests.misbehaving import says, served

KEY = "sk-very-secret-key"
ROW = "my diary: nobody may read this"
CELL = Cell("r", "", (("system", "You judge."), ("user", ROW)))
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer"}},
    "required": ["score"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


def endpoint(url: str = "http://127.0.0.1:1/v1", timeout_s: float = 5.0, **extra) -> Endpoint:
    return Endpoint(url, "tiny", "JUDGE_KEY", timeout_s, extra)


def asked(faults: list[str], cell: Cell = CELL, timeout_s: float = 5.0, times: int = 1, without=frozenset()):
    async def run(url: str) -> list[Answer | Failed]:
        remote = Remote(endpoint(url, timeout_s))
        try:
            return [await remote.ask(cell, without) for _ in range(times)]
        finally:
            await remote.close()

    with served(faults=faults) as server:
        got = asyncio.run(run(server.url))
    return (got[0] if times == 1 else got), server.counted


# ---- what is sent --------------------------------------------------------------------------------------------------


def test_a_request_says_what_the_cell_says() -> None:
    cell = Cell("r", "", CELL.messages, 50, schema=SCHEMA, choices=("1", "2"))
    assert request(cell, endpoint(top_p=0.5)) == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "You judge."}, {"role": "user", "content": ROW}],
        "max_tokens": 50,
        "temperature": 0.0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}},
        "logprobs": True,
        "top_logprobs": 20,
        "top_p": 0.5,
    }
    plain = request(cell, endpoint(), structured=False, without=frozenset({"logprobs", "max_tokens"}))
    assert set(plain) == {"model", "messages", "max_completion_tokens", "temperature"}
    assert request(Cell("r", "", (), temperature=0.7, repeat=3), endpoint())["seed"] == 3
    assert "max_tokens" not in request(cell, endpoint(max_completion_tokens=9))


def test_the_server_gets_the_fields_and_the_key() -> None:
    cell = Cell("r", "", CELL.messages, schema=SCHEMA, choices=("1",), temperature=1.0)
    _, counted = asked(["ok"], cell)
    wanted = {"model", "messages", "max_tokens", "temperature", "seed", "response_format", "logprobs", "top_logprobs"}
    assert set(counted.fields) == wanted


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"key_name": "sk-abc123"}, "name of an environment variable"),
        ({"key_name": "gsk_abc123"}, "name of an environment variable"),
        ({"key_name": "NOT_SET", "url": "https://judge.example/v1"}, "set NOT_SET"),
        ({"url": f"https://user:{KEY}@judge.example/v1"}, "must hold no key"),
        ({"url": f"https://judge.example/v1?key={KEY}"}, "must hold no key"),
        ({"url": "judge.example/v1"}, "must be an address"),
        ({"extra": {"stream": True, "n": 3}}, "may not set n, stream"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(changes: dict, word: str) -> None:
    given = {"url": "http://127.0.0.1:1/v1", "model": "m", "key_name": "JUDGE_KEY", "timeout_s": 1.0, **changes}
    with pytest.raises(JudgeUnavailable, match=word) as error:
        Remote(Endpoint(**given))
    assert KEY not in str(error.value) and "abc123" not in str(error.value)


def test_a_key_that_is_none_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", f"{KEY} \n and more")
    with pytest.raises(JudgeUnavailable, match="is not a key") as error:
        Remote(endpoint())
    assert KEY not in str(error.value)


# ---- what comes back -----------------------------------------------------------------------------------------------

GOOD = Answer(OK, says(ROW), {}, 17, 11)


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        ("ok", GOOD),
        ("parts", GOOD),
        ("wrong_id", GOOD),  # an answer belongs to the connection that it comes on, whatever it calls itself
        ("no_id", GOOD),
        ("no_usage", Answer(OK, says(ROW))),
        ("odd_usage", Answer(OK, says(ROW))),
        ("length", Answer(TRUNCATED, says(ROW), {}, 17, 11)),
        ("refusal", Answer(REFUSED, "No.", {}, 17, 11)),
        ("filter", Answer(REFUSED, says(ROW), {}, 17, 11)),
        ("null_charged", Answer(PARSE_ERROR, "", {}, 17, 11)),
        ("empty_charged", Answer(PARSE_ERROR, "", {}, 17, 11)),
        ("null", Failed("empty")),
        ("empty_choices", Failed("empty")),
        ("malformed", Failed("malformed")),
        ("html", Failed("malformed")),
        ("cut", Failed("connection")),
        ("gone", Failed("connection")),
        ("hang", Failed("timeout")),
        ("drip", Failed("timeout")),  # though it is never silent for long
        ("http_500", Failed("http_500")),
        ("http_502", Failed("http_502")),
        ("http_503", Failed("http_503", put_off=True)),
        ("http_429", Failed("http_429", put_off=True)),
        ("http_429_s", Failed("http_429", 1.0, put_off=True)),
        ("http_429_0", Failed("http_429", 0.0, put_off=True)),
        ("http_429_ms", Failed("http_429", 0.02, put_off=True)),
        ("http_500_ms", Failed("http_500", 0.02, put_off=True)),
        ("filter_400", Failed("declined", final=REFUSED)),
        ("too_long", Failed("too_long", final=API_ERROR)),
        ("http_400", Failed("http_400", final=API_ERROR)),
        ("http_413", Failed("http_413", final=API_ERROR)),
    ],
)
def test_what_an_outcome_means(fault: str, wanted: Answer | Failed) -> None:
    got, counted = asked([fault], timeout_s=0.4 if fault in ("hang", "drip") else 5.0)
    if isinstance(wanted, Answer) and wanted.prompt_tokens:
        used = misbehaving.tokens(ROW) + misbehaving.tokens("You judge.") + 11
        wanted = Answer(wanted.status, wanted.text, {}, used, misbehaving.tokens(says(ROW)))
    assert got == wanted
    assert counted.calls == 1  # the client does not try again by itself


def test_a_date_to_wait_for() -> None:
    got, _ = asked(["http_429_date"])
    assert isinstance(got, Failed) and got.put_off and got.wait_s is not None and 0 <= got.wait_s <= 1


def test_nobody_there() -> None:
    async def run() -> Answer | Failed:
        remote = Remote(endpoint("http://127.0.0.1:9/v1"))
        try:
            return await remote.ask(CELL)
        finally:
            await remote.close()

    assert asyncio.run(run()) == Failed("unreachable")  # and so surely not charged


@pytest.mark.parametrize("fault", ["http_401", "http_403", "http_404", "http_402", "quota"])
@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_what_can_never_succeed_is_said_without_the_key_or_the_row(
    fault: str, level: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    caplog.set_level(level)
    with pytest.raises(JudgeUnavailable, match="kept") as caught:
        asked([fault])
    error = caught.value
    told = f"{error!r}{traceback.format_exception(error)}{caplog.text}{capfd.readouterr()}"
    told += repr([vars(record) for record in caplog.records if record.name != "asyncio"])
    assert error.__cause__ is None and error.__context__ is None
    for secret in (KEY, ROW, "nobody may read"):
        assert secret not in told


def test_an_answer_is_not_logged_either(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asked(["http_500", "cut", "malformed", "ok"], times=4)
    assert caplog.records
    for secret in (KEY, ROW, says(ROW)):
        assert secret not in caplog.text


# ---- fields that an endpoint does not know -------------------------------------------------------------------------


def test_a_server_without_schemas_is_asked_again_without() -> None:
    cell = Cell("r", "", CELL.messages, schema=SCHEMA)
    got, _ = asked(["no_schema"], cell)
    assert got == Failed("http_400", without=frozenset({"response_format"}))
    got, counted = asked(["no_schema"], cell, times=2, without=frozenset({"response_format"}))
    assert [one.status for one in got] == [OK, OK] and "response_format" not in counted.fields


def test_what_an_endpoint_does_not_know_is_remembered_only_once_it_is_proven() -> None:
    cell = Cell("r", "", CELL.messages, schema=SCHEMA)

    async def run(url: str) -> list[Answer | Failed]:
        remote = Remote(endpoint(url))
        less = frozenset({"response_format"})
        got = [await remote.ask(cell), await remote.ask(cell, less), await remote.ask(cell)]
        got += [await remote.ask(cell, less), await remote.ask(cell)]
        await remote.close()
        return got

    with served(faults=["http_400", "http_400", "ok", "ok", "ok"]) as server:
        asyncio.run(run(server.url))
    # One bad request is no proof: the third has the schema again; the fourth succeeds without, so the fifth has none.
    assert server.counted.fields["response_format"] == 2


@pytest.mark.parametrize(
    ("said", "left_out"),
    [
        ({}, "response_format"),
        ({"param": "response_format.json_schema"}, "response_format"),
        ({"param": "top_logprobs"}, "logprobs"),
        ({"param": "max_tokens"}, "max_tokens"),
        ({"param": "seed"}, "seed"),
    ],
)
def test_the_field_that_is_blamed_is_left_out(said: dict, left_out: str) -> None:
    body = request(Cell("r", "", (), schema=SCHEMA, choices=("1",), temperature=1.0), endpoint())
    assert declined(400, {}, said, body).without == {left_out}


def test_a_request_that_is_bad_for_other_reasons_is_not_tried_again() -> None:
    body = request(Cell("r", "", (), schema=SCHEMA), endpoint())
    assert declined(400, {}, {"param": "messages"}, body) == Failed("http_400", final=API_ERROR)
    assert declined(400, {}, {"param": "temperature"}, body).final == API_ERROR
    assert declined(400, {}, {"code": "context_length_exceeded"}, body) == Failed("too_long", final=API_ERROR)
    assert declined(400, {}, {"code": "content_policy_violation"}, body).final == REFUSED


# ---- reading -------------------------------------------------------------------------------------------------------


def body(**choice) -> bytes:
    return json.dumps({"choices": [{"message": {"content": "4"}, "finish_reason": "stop", **choice}]}).encode()


def test_log_probabilities_of_the_choices() -> None:
    places = [{"token": " 4", "logprob": -0.5}, {"token": "4", "logprob": -1.0}, {"token": "5", "logprob": -2.0}]
    places += [{"token": "x", "logprob": -3.0}]
    content = {"content": [{"top_logprobs": places}, {"top_logprobs": [{"token": "1", "logprob": -0.1}]}]}
    assert read(body(logprobs=content), ("1", "4", "5")).logprobs == {"4": -0.5, "5": -2.0}


@pytest.mark.parametrize(
    "odd",
    [None, [], {"content": None}, {"content": []}, {"content": [{}]}, {"content": [{"top_logprobs": [{"token": "4"}]}]}]
    + [{"content": [{"top_logprobs": [{"token": "4", "logprob": value}]}]} for value in ("x", None, float("nan"), 3.0)],
)
def test_odd_log_probabilities_are_none(odd) -> None:
    assert read(body(logprobs=odd), ("4",)) == Answer(OK, "4")


def test_signs_that_are_no_characters_do_no_harm() -> None:
    got = read(rb'{"choices": [{"message": {"content": "5 \ud800 \u0000"}}]}')
    assert got == Answer(OK, "5 ? \0")


def test_counts_that_are_none() -> None:
    for usage in (
        "{}",
        "[]",
        "null",
        '{"prompt_tokens": true}',
        '{"prompt_tokens": 1e400}',
        '{"prompt_tokens": ' + "9" * 40 + "}",
    ):
        got = read(b'{"choices": [{"message": {"content": "5"}}], "usage": ' + usage.encode() + b"}")
        assert got == Answer(OK, "5")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "prompt_tokens", "logprobs", "refusal", "finish_reason"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_nothing_that_a_server_says_breaks_the_reading(said) -> None:
    assert isinstance(read(json.dumps(said).encode(), ("1",)), Answer | Failed)
    assert isinstance(read(json.dumps({"choices": [said]}).encode(), ("1",)), Answer | Failed)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_nor_any_bytes(content: bytes) -> None:
    assert read(content) == Failed("malformed")


def test_nor_a_thousand_brackets() -> None:
    assert read(b"[" * 100_000) == Failed("malformed")
