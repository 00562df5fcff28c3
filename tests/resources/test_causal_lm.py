"""Token statistics against a plain forward pass with all scores, row by row; masks, cuts, templates, statuses."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from resources import causal_lm, token_pass
from resources.causal_lm import CausalLM, plain_segments
from resources.token_pass import TOKEN_STATISTICS_SCHEMA
from tests import tiny as tiny_models

CHAT = (
    "{% for m in messages %}<|s|>{{ m['role'] }}\n{{ m['content'] | trim }}<|e|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
)
LISTS = ("logp_conditional", "logp_alone", "logp_prompt", "entropy", "sum_p2", "top1", "top2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with a byte-level tokenizer that has a few merges."""
    folder = tmp_path_factory.mktemp("lm")
    marks = {"bos_token": "<|s|>", "eos_token": "<|e|>", "pad_token": "<|e|>"}
    tiny_models.llama(folder, tiny_models.tokenizer(folder, chat_template=CHAT, **marks), max_position_embeddings=512)
    return folder


def lm(folder: Path, **fields: Any) -> CausalLM:
    return CausalLM(**{"model": str(folder), "device": "cpu", "dtype": "float32", **fields})


def rows_of(*conversations: list[tuple[str, str]]) -> pl.DataFrame:
    messages = [[{"role": role, "content": content} for role, content in c] for c in conversations]
    return pl.DataFrame({"row_id": [f"r{i}" for i in range(len(messages))], "messages": messages})


def table(model: CausalLM, rows: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """All lines by row id; every row must come exactly once, in the promised shape."""
    frames = list(model.token_statistics(rows))
    for frame in frames:
        assert frame.schema == TOKEN_STATISTICS_SCHEMA
    lines = pl.concat(frames).to_dicts()
    assert sorted(line["row_id"] for line in lines) == sorted(rows["row_id"].to_list())
    return {line["row_id"]: line for line in lines}


class Plain:
    """The oracle: one sequence, all scores over the vocabulary, textbook formulas in float64."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def __call__(self, pieces: list[tuple[str, bool]], limit: int = 10**6) -> dict[str, list[float]]:
        import torch

        tokens: list[int] = []
        scored: list[int] = []
        for text, is_scored in pieces:
            ids = self.ids(text)
            if is_scored:
                scored += range(len(tokens), len(tokens) + len(ids))
            tokens += ids
        with torch.no_grad():
            logits = self.model(torch.tensor([tokens[:limit]])).logits[0].double()
        p = logits.softmax(-1).numpy()
        scored = [j for j in scored if j < limit]
        before = np.array([p[j - 1] for j in scored])
        label = np.array([p[j - 1, tokens[j]] for j in scored])
        ordered = np.sort(before, axis=1)
        return {
            "logp": np.log(label).tolist(),
            "entropy": (-(before * np.log(before)).sum(1)).tolist(),
            "sum_p2": (before**2).sum(1).tolist(),
            "top1": ordered[:, -1].tolist(),
            "top2": ordered[:, -2].tolist(),
            "hit": [int(before[k].argmax()) == tokens[j] for k, j in enumerate(scored)],
            "rest": [math.log(p[j - 1, tokens[j]]) for j in range(1, len(p)) if j not in scored and j <= max(scored)],
        }


@pytest.fixture(scope="module")
def oracle(tiny: Path) -> Plain:
    return Plain(tiny)


def assert_line(line: dict[str, Any], conditional: dict[str, list[float]], alone: list[float]) -> None:
    for name in ("entropy", "sum_p2", "top1", "top2"):
        np.testing.assert_allclose(line[name], conditional[name], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(line["logp_conditional"], conditional["logp"], atol=1e-4)
    np.testing.assert_allclose(line["logp_alone"], alone, atol=1e-4)
    np.testing.assert_allclose(line["logp_prompt"], conditional["rest"], atol=1e-4)
    assert len(line["logp_prompt"]) == line["n_prompt_tokens"] - 1
    assert line["hit"] == conditional["hit"]
    assert line["n_response_tokens"] == len(conditional["logp"])


SINGLE = [
    [("user", "the cat sat"), ("assistant", "the dog ran")],
    [("user", "Где?"), ("assistant", "в Москве 三四五 🦜")],
    [("system", "be brief"), ("user", "the cat"), ("assistant", "x")],
    [("user", ""), ("assistant", "\nran away " * 12)],
]


def test_every_number_is_that_of_a_plain_pass(tiny: Path, oracle: Plain) -> None:
    found = table(lm(tiny), rows_of(*SINGLE))
    for i, conversation in enumerate(SINGLE):
        user, answer = conversation[-2][1], conversation[-1][1]
        system = f"{conversation[0][1]}\n\n" if len(conversation) == 3 else ""
        prompt = f"{system}### Instruction:\n{user}\n\n### Response:\n"
        line = found[f"r{i}"]
        assert line["status"] == "ok" and line["truncated"] is False
        assert line["n_prompt_tokens"] == len(oracle.ids(prompt))
        alone = oracle([("### Response:\n", False), (answer, True)])["logp"]
        assert_line(line, oracle([(prompt, False), (answer, True)]), alone)


def test_every_turn_is_scored_with_its_history_and_alone(tiny: Path, oracle: Plain) -> None:
    talk = [
        ("user", "the cat"),
        ("assistant", "sat"),
        ("tool_call", "run()"),
        ("tool", "ran"),
        ("assistant", "the dog ran"),
        ("user", "the dog"),
        ("assistant", "the the"),
        ("user", "left open"),
    ]
    line = table(lm(tiny), rows_of(talk))["r0"]
    pieces = [
        ("### Instruction:\nthe cat\n\n### Response:\n", False),
        ("sat", True),
        ("\n\n### Call:\nrun()\n\n### Result:\nran\n\n### Response:\n", False),
        ("the dog ran", True),
        ("\n\n### Instruction:\nthe dog\n\n### Response:\n", False),
        ("the the", True),
    ]
    turns = [text for text, scored in pieces if scored]
    alone = [v for turn in turns for v in oracle([("### Response:\n", False), (turn, True)])["logp"]]
    assert_line(line, oracle(pieces), alone)
    assert line["n_response_tokens"] == sum(len(oracle.ids(turn)) for turn in turns)


def test_the_chat_template_is_cut_at_its_own_borders(tiny: Path, oracle: Plain) -> None:
    talk = [("user", "cat"), ("assistant", " sat "), ("user", "sat"), ("assistant", "cat")]  # this template trims
    line = table(lm(tiny, template="chat"), rows_of(talk))["r0"]
    pieces = [
        ("<|s|>user\ncat<|e|>\n<|s|>assistant\n", False),
        ("sat", True),
        ("<|e|>\n<|s|>user\nsat<|e|>\n<|s|>assistant\n", False),
        ("cat", True),
    ]
    alone = [v for t in ("sat", "cat") for v in oracle([("<|s|>assistant\n", False), (t, True)])["logp"]]
    assert_line(line, oracle(pieces), alone)


def test_a_chat_template_that_rewrites_the_past_is_refused() -> None:
    class Rewriting:
        def apply_chat_template(self, chat: list[dict[str, str]], **_: Any) -> str:
            return "".join(m["content"] if m is chat[-1] else "..." for m in chat)

    class Refusing:
        def apply_chat_template(self, chat: list[dict[str, str]], **_: Any) -> str:
            raise ValueError("roles must alternate")

    talk = [{"role": r, "content": r} for r in ("user", "assistant", "user", "assistant")]
    assert causal_lm.chat_segments(Rewriting(), talk) is None
    assert causal_lm.chat_segments(Refusing(), talk) is None


@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
def test_neighbours_do_not_matter(tiny: Path, batch_tokens: int) -> None:
    together = table(lm(tiny, batch_tokens=batch_tokens), rows_of(*SINGLE))
    for i, conversation in enumerate(SINGLE):
        single = table(lm(tiny), rows_of(conversation))["r0"]
        for name in LISTS:
            np.testing.assert_allclose(together[f"r{i}"][name], single[name], atol=1e-4)


def test_a_cut_response_says_so_and_keeps_the_same_tokens_in_both_passes(tiny: Path, oracle: Plain) -> None:
    prompt, answer = "### Instruction:\nthe cat\n\n### Response:\n", "the dog ran " * 9
    limit = len(oracle.ids(prompt)) + 5
    rows = rows_of([("user", "the cat"), ("assistant", answer)], [("user", "the cat " * 50), ("assistant", "x")])
    found = table(lm(tiny, max_tokens=limit), rows)
    cut, long = found["r0"], found["r1"]
    assert (cut["status"], cut["truncated"], cut["n_response_tokens"]) == ("truncated", True, 5)
    alone = oracle([("### Response:\n", False), (answer, True)])["logp"][:5]
    assert_line(cut, oracle([(prompt, False), (answer, True)], limit), alone)
    assert (long["status"], long["truncated"]) == ("too_long", True)
    assert all(long[name] is None for name in (*LISTS, "hit", "n_response_tokens"))


def test_a_response_that_just_fits_is_not_cut(tiny: Path, oracle: Plain) -> None:
    talk = [("user", "the cat"), ("assistant", "the dog ran")]
    whole = oracle.ids("### Instruction:\nthe cat\n\n### Response:\n") + oracle.ids("the dog ran")
    assert table(lm(tiny, max_tokens=len(whole)), rows_of(talk))["r0"]["status"] == "ok"
    assert table(lm(tiny, max_tokens=len(whole) - 1), rows_of(talk))["r0"]["status"] == "truncated"


def test_empty_responses_are_null(tiny: Path) -> None:
    rows = rows_of([("user", "a"), ("assistant", " \n")], [("user", "a")], [("user", "a"), ("assistant", "b")])
    found = table(lm(tiny), rows)
    assert [found[f"r{i}"]["status"] for i in range(3)] == ["empty_response", "empty_response", "ok"]
    assert all(found["r0"][name] is None for name in (*LISTS, "hit"))
    assert list(lm(tiny).token_statistics(rows.clear())) == []


def test_rows_without_messages_are_read_off_their_fields(tiny: Path) -> None:
    fields = pl.DataFrame({"row_id": ["r0"], "instruction": ["the"], "input": ["cat"], "response": ["sat"]})
    same = rows_of([("user", "the\ncat"), ("assistant", "sat")])
    assert table(lm(tiny), fields) == table(lm(tiny), same)


def test_rows_that_are_there_twice_come_twice(tiny: Path) -> None:
    rows = rows_of(SINGLE[0])
    frames = pl.concat(list(lm(tiny).token_statistics(pl.concat([rows, rows]))))
    assert frames["row_id"].to_list() == ["r0", "r0"]
    assert frames["entropy"][0].to_list() == pytest.approx(frames["entropy"][1].to_list(), abs=1e-5)


def test_a_batch_that_does_not_fit_is_halved_and_a_row_that_does_not_is_named(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = table(lm(tiny), rows_of(*SINGLE))
    real = token_pass.score_batch
    longest = max(line["n_prompt_tokens"] + line["n_response_tokens"] for line in expected.values())

    def small(model: Any, head: Any, sequences: list[Any], opening: Any) -> Any:
        if len(sequences) > 1 or len(sequences[0].tokens) >= longest:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(model, head, sequences, opening)

    monkeypatch.setattr(token_pass, "score_batch", small)
    found = table(lm(tiny), rows_of(*SINGLE))
    assert [found[f"r{i}"]["status"] for i in range(4)] == ["ok", "ok", "ok", "out_of_memory"]
    assert found["r3"]["entropy"] is None
    np.testing.assert_allclose(found["r0"]["entropy"], expected["r0"]["entropy"], atol=1e-5)

    monkeypatch.setattr(token_pass, "score_batch", lambda *_: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        table(lm(tiny), rows_of(*SINGLE))


SHARED = [
    [("system", "always be brief and kind and the dog " + "the cat sat " * 5), ("user", user), ("assistant", answer)]
    for user, answer in (("the cat", "ran"), ("the dog ran", "the cat sat the dog"), ("x", "y" * 40))
]


def test_what_all_begin_with_runs_once_and_changes_nothing(tiny: Path, oracle: Plain) -> None:
    model = lm(tiny)
    plans = model.plans(["a", "b", "c"], [[{"role": r, "content": c} for r, c in talk] for talk in SHARED])
    loaded = model.load()
    assert loaded.remembers
    sequences = [plan.conditional for plan in plans if plan.conditional]
    opening = token_pass.opening_of(loaded.model, loaded.head, sequences)
    assert opening and len(opening.tokens) > 20
    assert all(s.tokens[: len(opening.tokens)] == opening.tokens for s in sequences)
    with_it = token_pass.score_batch(loaded.model, loaded.head, sequences, opening)
    without = token_pass.score_batch(loaded.model, loaded.head, sequences)
    for one, other in zip(with_it, without, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    again = token_pass.score_batch(loaded.model, loaded.head, sequences[::-1], opening)  # it was not used up
    np.testing.assert_allclose(again[-1], with_it[0], atol=1e-4)
    found = table(model, rows_of(*SHARED))
    for i, talk in enumerate(SHARED):
        prompt = f"{talk[0][1]}\n\n### Instruction:\n{talk[1][1]}\n\n### Response:\n"
        alone = oracle([("### Response:\n", False), (talk[2][1], True)])["logp"]
        assert_line(found[f"r{i}"], oracle([(prompt, False), (talk[2][1], True)]), alone)


@pytest.mark.parametrize("same", [2, 3])
def test_rows_that_are_all_alike_still_have_something_to_run(tiny: Path, same: int) -> None:
    talk = SHARED[1]
    found = table(lm(tiny), rows_of(*[talk] * same))
    single = table(lm(tiny), rows_of(talk))["r0"]
    for i in range(same):
        for name in LISTS:
            np.testing.assert_allclose(found[f"r{i}"][name], single[name], atol=1e-4)


def test_a_model_that_does_not_go_on_from_an_opening_is_found_out(tiny: Path) -> None:
    loaded = lm(tiny).load()

    class Forgetful:
        device, config = loaded.model.device, loaded.model.config

        @staticmethod
        def base_model(input_ids: Any, past_key_values: Any = None, use_cache: bool = False) -> Any:
            return loaded.model.base_model(input_ids=input_ids, use_cache=use_cache)

    assert token_pass.remembers(loaded.model) and not token_pass.remembers(Forgetful())


def test_who_runs_which_batch_changes_no_bit(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    rows = rows_of(*SINGLE, *SHARED)
    before = torch.get_num_threads()
    found = []
    for cores in (2, 2, 3):
        monkeypatch.setattr(CausalLM, "_workers", lambda self, cores=cores: cores)
        found.append(table(lm(tiny, batch_tokens=64), rows))
    assert found[0] == found[1] == found[2]
    assert torch.get_num_threads() == before


def test_without_the_responses_alone_nothing_but_the_responses_is_scored(tiny: Path) -> None:
    full = table(lm(tiny), rows_of(*SINGLE))
    (frame,) = lm(tiny).token_statistics(rows_of(*SINGLE), alone=False)
    assert frame["logp_alone"].null_count() == frame["logp_prompt"].null_count() == len(SINGLE)
    for line in frame.iter_rows(named=True):
        np.testing.assert_allclose(line["logp_conditional"], full[line["row_id"]]["logp_conditional"], atol=1e-4)


def test_progress_counts_rows(tiny: Path) -> None:
    calls: list[tuple[int, int]] = []
    list(lm(tiny, batch_tokens=1).token_statistics(rows_of(*SINGLE), lambda done, of: calls.append((done, of))))
    assert calls[-1] == (4, 4) and [c[0] for c in calls] == sorted({c[0] for c in calls})


def test_the_next_token_of_a_prompt(tiny: Path, oracle: Plain) -> None:
    import torch

    words = [word for word in ("a", "e", "the", "Yes", "No") if len(oracle.ids(word)) == 1]
    assert len(words) >= 2
    prompts = ["Is it so?", "Name one letter, or two.", "x"]
    found, status = lm(tiny).next_token(prompts, [*words, "surely no single token of this vocabulary"])
    assert np.isnan(found[:, -1]).all() and status == ["ok"] * 3
    for prompt, line in zip(prompts, found, strict=True):
        tokens = oracle.ids(f"### Instruction:\n{prompt}\n\n### Response:\n")
        with torch.no_grad():
            p = oracle.model(torch.tensor([tokens])).logits[0, -1].double().log_softmax(-1)
        np.testing.assert_allclose(line[:-1], [p[oracle.ids(word)[0]].item() for word in words], atol=1e-4)


def test_a_prompt_that_is_too_long_has_no_next_token(tiny: Path) -> None:
    found, status = lm(tiny, max_tokens=24).next_token(["x", "word " * 60], ["a"])
    assert np.isfinite(found[0, 0]) and np.isnan(found[1, 0]) and status == ["ok", "too_long"]
    nothing, none = lm(tiny).next_token([], ["a"])
    assert nothing.shape == (0, 1) and none == []


def test_plain_segments_leave_nothing_out() -> None:
    talk = [("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", "c")]
    segments = plain_segments([{"role": r, "content": c} for r, c in talk])
    text = "".join(text for text, _ in segments)
    assert text == "### Instruction:\na\n\n### Response:\n\n\n### Instruction:\nb\n\n### Response:\nc"
    assert [text for text, scored in segments if scored] == ["c"]


def test_what_is_not_known_is_refused(tiny: Path) -> None:
    with pytest.raises(ValueError, match="plain or chat"):
        list(lm(tiny, template="other").token_statistics(rows_of(SINGLE[0])))
    with pytest.raises(ValueError, match="bfloat16"):
        lm(tiny, dtype="int4").identity()
    assert lm(tiny).identity() != lm(tiny, dtype="auto").identity() != lm(tiny, max_tokens=9).identity()


def test_smollm2_finds_a_fitting_prompt_helpful() -> None:
    rows = rows_of(
        [("user", "Name the capital of France."), ("assistant", "The capital of France is Paris.")],
        [("user", "Name a kind of cheese."), ("assistant", "The capital of France is Paris.")],
    )
    found = table(CausalLM(device="cpu"), rows)
    fitting, other = (np.mean(found[r]["logp_conditional"]) for r in ("r0", "r1"))
    assert fitting > other and fitting > np.mean(found["r0"]["logp_alone"])
    np.testing.assert_allclose(found["r0"]["logp_alone"], found["r1"]["logp_alone"], atol=0.1)
    exact = table(CausalLM(device="cpu", dtype="float32"), rows)
    assert np.mean(exact["r0"]["logp_conditional"]) == pytest.approx(fitting, abs=0.1)


MASKED = {
    "one turn": (SINGLE[0], {}),
    "other scripts": (SINGLE[1], {}),
    "a system prompt": (SINGLE[2], {}),
    "an empty prompt": (SINGLE[3], {}),
    "several turns": (
        [("user", "the cat"), ("assistant", "sat"), ("user", "the dog"), ("assistant", "ran"), ("user", "left open")],
        {},
    ),
    "a turn without words": ([("user", "a"), ("assistant", ""), ("user", "b"), ("assistant", "the cat")], {}),
    "cut": ([("user", "the cat"), ("assistant", "the dog ran " * 30)], {"max_tokens": 40}),
    "the chat template": (
        [("user", "cat"), ("assistant", "sat"), ("user", "x"), ("assistant", "y")],
        {"template": "chat"},
    ),
}


@pytest.mark.parametrize("case", MASKED, ids=str)
def test_the_loss_is_the_model_s_own_with_labels_on_the_answers_alone(tiny: Path, oracle: Plain, case: str) -> None:
    import torch

    talk, fields = MASKED[case]
    line = table(lm(tiny, **fields), rows_of(talk))["r0"]
    ids, labels = [], []
    for text, scored in written(talk, **fields):
        piece = oracle.ids(text)
        ids += piece
        labels += piece if scored else [-100] * len(piece)
    limit = fields.get("max_tokens", len(ids))
    tensors = torch.tensor([ids[:limit]]), torch.tensor([labels[:limit]])
    with torch.no_grad():
        loss = float(oracle.model(input_ids=tensors[0], labels=tensors[1]).loss)
    assert -np.mean(line["logp_conditional"]) == pytest.approx(loss, abs=1e-5)
    assert line["n_response_tokens"] == int((tensors[1] != -100).sum())


def written(talk: list[tuple[str, str]], template: str = "plain", **_: Any) -> list[tuple[str, bool]]:
    """The conversation by hand: pieces of text up to the last answer, and whether each is an answer."""
    pieces: list[tuple[str, bool]] = []
    for role, content in talk:
        if template == "chat":
            pieces += [(f"<|s|>{role}\n", False), (content, role == "assistant"), ("<|e|>\n", False)]
            continue
        head = {"user": "### Instruction:\n", "assistant": "### Response:\n", "system": ""}[role]
        answers = role == "assistant" and bool(content)
        pieces += [(head, False), (content, True), ("\n\n", False)] if answers else [(f"{head}{content}\n\n", False)]
    while not pieces[-1][1]:
        pieces.pop()
    joined: list[tuple[str, bool]] = []  # what stands between two answers is one piece, as it is tokenised
    for text, answers in pieces:
        if joined and not answers and not joined[-1][1]:
            joined[-1] = (joined[-1][0] + text, False)
        else:
            joined.append((text, answers))
    return joined
