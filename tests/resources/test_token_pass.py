"""The arithmetic of the pass: by hand, compiled against torch and double precision, and the same tokens in both passes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources import token_pass
from resources.token_pass import plan_row


def test_label_statistics_by_hand() -> None:
    import torch

    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    head = token_pass.Head(lambda scores: scores.clone(), 3)
    for chunk in (1, 2, 9):
        numbers = token_pass.label_statistics(p.log() + 5, torch.tensor([0, 2]), head, chunk)
        found = dict(zip(token_pass.NUMBERS, numbers.T, strict=True))
        np.testing.assert_allclose(np.exp(found["logp"]), [0.7, 0.3], atol=1e-6)
        el2n = np.sqrt(found["sum_p2"] - 2 * np.exp(found["logp"]) + 1)
        np.testing.assert_allclose(el2n, [0.374166, 0.927362], atol=1e-5)
        np.testing.assert_allclose(found["top1"] - found["top2"], [0.5, 0.3], atol=1e-6)
        expected = [-sum(q * math.log(q) for q in row) for row in p.tolist()]
        np.testing.assert_allclose(found["entropy"], expected, atol=1e-6)
        assert found["hit"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_the_compiled_numbers_are_those_of_torch_and_of_double_precision(kind: str) -> None:
    """Blocks of the vocabulary that come late and hold the largest score, ties, forbidden tokens, huge gaps."""
    import torch

    torch.manual_seed(0)
    scores = (torch.randn(40, 1300) * torch.linspace(0.1, 12, 40)[:, None]).to(getattr(torch, kind))
    scores[0] = 0.0  # all tied
    scores[1, 1200] = 300.0  # all but certain
    scores[2, ::2] = float("-inf")
    scores[3, 5] = scores[3, 1250] = scores[3].max() + 1  # two share the lead
    labels = torch.randint(0, 1300, (40,))
    labels[2], labels[3] = 3, 1250
    one, other = np.empty((40, 6)), np.empty((40, 6))
    token_pass._by_rows(scores.clone(), labels, one)
    token_pass._by_columns(scores.clone(), labels, other)
    np.testing.assert_allclose(one[:, [0, 1, 2, 3, 4]], other[:, [0, 1, 2, 3, 4]], rtol=2e-5, atol=2e-5)
    assert one[:, 5].tolist() == other[:, 5].tolist() and one[3, 5] == 1.0
    p = torch.softmax(scores.double(), dim=-1).numpy()
    np.testing.assert_allclose(one[:, 0], np.log(p[np.arange(40), labels]), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(one[:, 2], (p * p).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(one[:, 3], p.max(axis=1), rtol=1e-5)


@given(
    pieces=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4),
    header=st.integers(1, 6),
    limit=st.integers(1, 50),
)
def test_plans_score_the_same_tokens_in_both_passes(pieces: list[tuple[int, int]], header: int, limit: int) -> None:
    segments: list[tuple[list[int], bool]] = [([900], False)]
    for before, turn in pieces:
        segments += [([1] * before, False), (list(range(100, 100 + turn)), True)]
    plan = plan_row("r", segments, [7] * header, limit)
    whole = sum(turn for _, turn in pieces)
    if plan.conditional is None:
        assert plan.status == ("no_response_tokens" if whole == 0 else "too_long")
        return
    assert len(plan.conditional.tokens) <= limit and all(len(s.tokens) <= limit for s in plan.alone)
    scored = [plan.conditional.tokens[j] for a, b in plan.conditional.spans for j in range(a, b)]
    alone = [s.tokens[j] for s in plan.alone for a, b in s.spans for j in range(a, b)]
    assert scored == alone and len(scored) > 0
    assert (plan.status == "ok") == (len(scored) == whole)
