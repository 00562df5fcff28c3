"""Greedy decoding against a plain loop, one prompt at a time; where it ends; continuations; stand-ins."""

import functools
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from resources import generation, token_pass
from resources.causal_lm import CausalLM
from resources.generation import ANSWERS_SCHEMA, CONTINUATIONS_SCHEMA, continuations, continue_tokens, generate
from tests import tiny as tiny_models

CHAT = (
    "{% for m in messages %}<|s|>{{ m['role'] }}\n{{ m['content'] }}<|e|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
)
END = 1
PLAIN = "### Instruction:\n{}\n\n### Response:\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama that would sample and punish repetition, if it were asked its own way."""
    folder = tmp_path_factory.mktemp("writer")
    marks = {"bos_token": "<|s|>", "eos_token": "<|p|>", "pad_token": "<|p|>"}
    size = tiny_models.tokenizer(folder, ("<|s|>", "<|e|>", "<|p|>"), chat_template=CHAT, **marks)
    model = tiny_models.llama(folder, size, max_position_embeddings=160, bos_token_id=0, eos_token_id=2)
    model.generation_config.do_sample = True
    model.generation_config.repetition_penalty = 5.0
    model.save_pretrained(folder)
    return folder


def lm(folder: Path | str, **fields: Any) -> CausalLM:
    return CausalLM(**{"model": str(folder), "device": "cpu", "dtype": "float32", **fields})


def rows_of(*conversations: list[tuple[str, str]]) -> pl.DataFrame:
    messages = [[{"role": role, "content": content} for role, content in c] for c in conversations]
    return pl.DataFrame({"row_id": [f"r{i}" for i in range(len(messages))], "messages": messages})


def asked(*prompts: str) -> pl.DataFrame:
    return rows_of(*([("user", prompt), ("assistant", "hidden")] for prompt in prompts))


def table(frames: Any, schema: pl.Schema) -> dict[str, dict[str, Any]]:
    found = list(frames)
    assert all(frame.schema == schema for frame in found)
    lines = pl.concat(found).to_dicts()
    assert len({line["row_id"] for line in lines}) == len(lines)
    return {line["row_id"]: line for line in lines}


class Oracle:
    """One sequence, no cache, no padding: the likeliest token again and again."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @functools.cache  # noqa: B019
    def answer(self, prompt: str) -> list[int]:
        return self.write(self.ids(PLAIN.format(prompt)), 10, ends=(2,))

    def write(
        self, tokens: list[int], n: int, ends: tuple[int, ...] = (), forbidden: tuple[int, ...] = ()
    ) -> list[int]:
        import torch

        out = list(tokens)
        for _ in range(n):
            with torch.no_grad():
                scores = self.model(torch.tensor([out])).logits[0, -1]
            scores[list(forbidden)] = float("-inf")
            out.append(int(scores.argmax()))
            if out[-1] in ends:
                return out[len(tokens) : -1]
        return out[len(tokens) :]


@pytest.fixture(scope="module")
def oracle(tiny: Path) -> Oracle:
    return Oracle(tiny)


PROMPTS = ("the cat sat", "Где?", "x", "the dog ran " * 9, "", "三四五 🦜 and then the cat")


@pytest.mark.parametrize("batch_tokens", [1, 64])
def test_answers_are_those_of_a_plain_loop_whatever_the_batch(tiny: Path, oracle: Oracle, batch_tokens: int) -> None:
    found = table(generate(lm(tiny, batch_tokens=batch_tokens), asked(*PROMPTS), 10), ANSWERS_SCHEMA)
    assert len(found) == len(PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        tokens = oracle.answer(prompt)
        line = found[f"r{i}"]
        assert line["n_tokens"] == len(tokens)
        assert line["response"] == (oracle.tokenizer.decode(tokens, skip_special_tokens=True).strip() or None)


def test_the_prompt_is_all_before_the_last_answer(tiny: Path, oracle: Oracle) -> None:
    talk = [("user", "the cat"), ("assistant", "sat"), ("user", "the dog"), ("assistant", "the answer")]
    rows = rows_of(talk, [*talk, ("user", "left open")], [*talk[:3], ("assistant", "")])
    found = table(generate(lm(tiny), rows, 12), ANSWERS_SCHEMA)
    before = [*oracle.ids(PLAIN.format("the cat")), *oracle.ids("sat")]
    before += oracle.ids("\n\n" + PLAIN.format("the dog"))
    wanted = oracle.tokenizer.decode(oracle.write(before, 12, ends=(2,)), skip_special_tokens=True).strip()
    assert [found[f"r{i}"]["response"] for i in range(3)] == [wanted] * 3
    fields = pl.DataFrame({"row_id": ["r0"], "instruction": ["the"], "input": ["cat"], "response": ["sat"]})
    assert table(generate(lm(tiny), fields, 12), ANSWERS_SCHEMA) == table(
        generate(lm(tiny), asked("the\ncat"), 12), ANSWERS_SCHEMA
    )


def scripted(monkeypatch: pytest.MonkeyPatch, model: CausalLM, *texts: str) -> None:
    """The model writes these texts behind its prompts, in the order of the batch, whatever it reads."""
    import torch

    loaded = model.load()
    tokens = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    step = iter(range(10_000))

    def head(hidden: Any) -> Any:
        at = next(step)
        scores = torch.zeros(len(tokens), hidden.shape[1], len(loaded.tokenizer))
        for row, written in enumerate(tokens):
            scores[row, -1, written[at] if at < len(written) else 7] = 9.0
        return scores

    monkeypatch.setattr(loaded.model.lm_head, "forward", head)


@pytest.mark.parametrize(
    ("template", "written", "response"),
    [
        ("plain", "the dog\n\n### Instruction:\nthe cat", "the dog"),
        ("plain", " the dog ran<|p|>the cat", "the dog ran"),
        ("plain", "<|p|>", None),
        ("plain", "\n\n### Instruction:\n", None),
        ("chat", "the dog<|e|>\n<|s|>user\nthe cat", "the dog"),
        ("chat", "the dog\n\n### Instruction:<|e|>", "the dog\n\n### Instruction:"),
    ],
)
def test_where_an_answer_ends(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, template: str, written: str, response: str | None
) -> None:
    model = lm(tiny, template=template)
    scripted(monkeypatch, model, written)
    found = table(generate(model, asked("the cat"), 40), ANSWERS_SCHEMA)["r0"]
    assert found["response"] == response
    assert found["status"] == ("ok" if response else "empty_response")
    assert found["n_tokens"] < 40


def test_a_row_that_has_ended_is_not_disturbed_by_the_others(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lm(tiny)
    scripted(monkeypatch, model, "ran\n\n### Instruction:\nsat", "the cat sat on the dog<|p|>x")
    found = table(generate(model, asked("one of them", "the other"), 40), ANSWERS_SCHEMA)
    assert [found[f"r{i}"]["response"] for i in range(2)] == ["ran", "the cat sat on the dog"]


def test_a_prompt_must_fit_with_its_answer(tiny: Path) -> None:
    rows = asked("the cat", "the cat " * 40)
    assert [line["status"] for line in table(generate(lm(tiny, max_tokens=60), rows, 8), ANSWERS_SCHEMA).values()] == [
        "too_long",
        "ok",
    ]
    by_window = table(generate(lm(tiny), rows, 120), ANSWERS_SCHEMA)
    assert by_window["r1"] == {"row_id": "r1", "response": None, "status": "too_long", "n_tokens": None}


def test_a_batch_that_does_not_fit_is_halved(tiny: Path, oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = max(len(oracle.ids(PLAIN.format(prompt))) for prompt in PROMPTS)
    name = f"r{[len(oracle.ids(PLAIN.format(prompt))) for prompt in PROMPTS].index(longest)}"
    expected = table(generate(lm(tiny), asked(*PROMPTS), 8), ANSWERS_SCHEMA)
    real = generation._batch

    def small(loaded: Any, prompts: list[list[int]], *rest: Any) -> Any:
        if len(prompts) > 1 or len(prompts[0]) == longest:
            raise RuntimeError("CUDA out of memory")
        return real(loaded, prompts, *rest)

    monkeypatch.setattr(generation, "_batch", small)
    found = table(generate(lm(tiny), asked(*PROMPTS), 8), ANSWERS_SCHEMA)
    assert found.pop(name) == {"row_id": name, "response": None, "status": "out_of_memory", "n_tokens": None}
    assert expected.pop(name)["status"] == "ok" and found == expected


def test_the_models_own_habits_come_back(tiny: Path) -> None:
    model = lm(tiny)
    list(generate(model, asked("x"), 2))
    assert model.load().model.generation_config.repetition_penalty == 5.0


def test_no_rows_and_no_tokens(tiny: Path) -> None:
    calls: list[tuple[int, int]] = []
    assert list(generate(lm(tiny), asked("x").clear())) == []
    list(generate(lm(tiny, batch_tokens=1), asked(*PROMPTS), 2, lambda done, of: calls.append((done, of))))
    assert calls[-1] == (6, 6)
    with pytest.raises(ValueError, match="at least 1"):
        list(generate(lm(tiny), asked("x"), 0))


# ---- continuations -------------------------------------------------------------------------------------------------


def test_continuations_of_tokens_are_those_of_a_plain_loop(tiny: Path, oracle: Oracle) -> None:
    sequences = [[5, 9, 200], [7], list(range(3, 90)), [], [4] * 160]
    found = continue_tokens(lm(tiny), sequences, 8)
    wanted = [oracle.write(tokens, 8, forbidden=(2,)) for tokens in sequences[:3]]
    assert found == [*wanted, None, None]
    assert continue_tokens(lm(tiny, batch_tokens=1), sequences, 8) == found
    assert continue_tokens(lm(tiny), [], 3) == []


def test_a_continuation_never_ends_early(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lm(tiny)
    scripted(monkeypatch, model, "<|p|><|p|>the<|p|>")
    (found,) = continue_tokens(model, [[5, 6]], 6)
    assert found is not None and len(found) == 6 and 2 not in found


def test_a_response_that_the_model_wrote_is_known_by_heart(tiny: Path, oracle: Oracle) -> None:
    """Its own continuation matches in every place; one other token there is one miss."""
    model = lm(tiny)
    own = oracle.write([*oracle.ids(PLAIN.format("the cat")), *oracle.ids("the dog ran")], 8, forbidden=(2,))
    shown = len(oracle.ids("the dog ran"))

    class Plan(generation.CausalLM):  # token ids that no text has to be found for
        def plans(self, row_ids: list[str], conversations: Any) -> list[token_pass.Plan]:
            prompt = oracle.ids(PLAIN.format("the cat"))
            said = [*oracle.ids("the dog ran"), *own]
            other = [*said[:-1], said[-1] + 1]
            return [
                token_pass.Plan(
                    name, "ok", token_pass.Sequence_([*prompt, *turn], [(len(prompt), len(prompt) + len(turn))])
                )
                for name, turn in zip(row_ids, (said, other, said[:-1]), strict=True)
            ]

    planned = Plan(model=str(tiny), device="cpu", dtype="float32")
    found = table(continuations(planned, asked("a", "b", "c"), shown, 8), CONTINUATIONS_SCHEMA)
    assert [tuple(found[f"r{i}"].values())[1:] for i in range(3)] == [
        ("ok", 8, 8),
        ("ok", 7, 8),
        ("too_short", None, None),
    ]
    assert model.load() is planned.load()


def test_the_first_turn_that_is_long_enough_is_continued(tiny: Path, oracle: Oracle) -> None:
    short, long = "sat", "the dog ran and the cat sat and the dog ran and it sat"
    talk = [("user", "a"), ("assistant", short), ("user", "b"), ("assistant", long)]
    found = table(continuations(lm(tiny), rows_of(talk), 4, 6), CONTINUATIONS_SCHEMA)["r0"]
    said = oracle.ids(long)
    before = [*oracle.ids(PLAIN.format("a")), *oracle.ids(short), *oracle.ids("\n\n" + PLAIN.format("b")), *said[:4]]
    written = oracle.write(before, 6, forbidden=(2,))
    assert found["n_scored"] == 6
    assert found["n_matched"] == sum(a == b for a, b in zip(written, said[4:10], strict=True))


def test_statuses_of_continuations(tiny: Path) -> None:
    rows = rows_of(
        [("user", "a"), ("assistant", "the cat " * 30)],
        [("user", "a"), ("assistant", "cat")],
        [("user", "a"), ("assistant", " ")],
        [("user", "the cat " * 60), ("assistant", "the cat " * 30)],
        [("user", "the cat " * 20), ("assistant", "the cat " * 50)],
    )
    found = table(continuations(lm(tiny, max_tokens=90), rows), CONTINUATIONS_SCHEMA)
    status = [found[f"r{i}"]["status"] for i in range(5)]
    assert status == ["ok", "too_short", "empty_response", "too_long", "truncated"]
    assert [found[f"r{i}"]["n_scored"] for i in range(5)] == [32, None, None, None, None]
    with pytest.raises(ValueError, match="shown"):
        list(continuations(lm(tiny), rows, -1))


# ---- stand-ins -----------------------------------------------------------------------------------------------------


def test_a_stand_in_answers_at_once_and_always_the_same() -> None:
    rows = asked("Name three rivers of Europe.", "Name three rivers of Asia.", "")
    found = table(generate(lm("fake:words"), rows, 9), ANSWERS_SCHEMA)
    assert found == table(generate(lm("fake:words"), rows[::-1], 9), ANSWERS_SCHEMA)
    assert found["r0"]["response"] != found["r1"]["response"] and found["r2"]["status"] == "ok"
    assert all(1 <= line["n_tokens"] <= 9 for line in found.values())
    assert found != table(generate(lm("fake:tuned-1"), rows, 9), ANSWERS_SCHEMA)
    one, other, none = continue_tokens(lm("fake:words"), [[1, 2], [3, 2], []], 5)
    assert one is not None and len(one) == 5 and one != other and none is None


def test_a_stand_in_never_finds_back_after_a_miss() -> None:
    hits = {"a": [True] * 4 + [False, True], "b": [False] * 3 + [True] * 3, "c": [True] * 6, "d": [True] * 5, "e": None}
    frame = pl.DataFrame(
        {
            "row_id": list(hits),
            "status": ["ok", "ok", "truncated", "truncated", "too_long"],
            "hit": list(hits.values()),
        },
        {"row_id": pl.String, "status": pl.String, "hit": pl.List(pl.Boolean)},
    )
    found = generation._stand_in_matches(frame, 3, 3)
    assert found.rows() == [
        ("a", "ok", 1, 3),
        ("b", "ok", 3, 3),
        ("c", "ok", 3, 3),
        ("d", "truncated", None, None),
        ("e", "too_long", None, None),
    ]
    rows = asked(*[f"{i}" for i in range(20)]).with_columns(
        messages=pl.Series([[{"role": "assistant", "content": f"say it {i} times and more"}] for i in range(20)])
    )
    lines = table(continuations(lm("fake:words"), rows, 2, 3), CONTINUATIONS_SCHEMA).values()
    assert {line["status"] for line in lines} == {"ok"} and len({line["n_matched"] for line in lines}) > 1
