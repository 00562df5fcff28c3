"""On real data, with answers known beforehand: code for a code target, copies that go, rows that two sources share."""

import re
import unicodedata
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from methods.filters import duplicates
from methods.filters.shingles import prompt_of
from methods.importance.dsir import dsir
from methods.kinds import Candidates, Target
from methods.readers import read_file
from methods.selection import twins

CODE, SAME, ALIKE = "code_alpaca", "gpteacher_codegen", "gpteacher_toolformer"
OTHERS = ("dolly.json", "lima.jsonl", "gpteacher_roleplay.json", "alpaca_libre_tasks_v2.jsonl")
FOUND_FROM, DROPPED_FROM = 0.7, 0.8
"""Pairs are found from a lower similarity than rows are dropped from, as for a pool and its recipes."""


def read(path: Path) -> pl.DataFrame:
    rows = pl.concat([batch.rows for batch in read_file(path, path.stem)])
    return rows.select("row_id", "source", "instruction", "input", "response")


def pairs_of(rows: pl.DataFrame, threshold: float = FOUND_FROM) -> pl.DataFrame:
    return twins.find_pairs(rows, duplicates.signatures(rows)["signature"], threshold)


def texts_of(rows: pl.DataFrame) -> list[str]:
    """Prompt and response, put together here."""
    fields = rows.select(pl.col("instruction", "input", "response").fill_null("")).iter_rows()
    return [(f"{prompt}\n{extra}" if extra else prompt) + f"\n{response}" for prompt, extra, response in fields]


def same_text(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def all_pairs(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    """Every pair of texts by the exact Jaccard index of their sets of three words: nothing is hashed."""
    codes: dict[tuple[str, ...], int] = {}
    sets = []
    for text in texts:
        found = re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())
        n = max(len(found) - 2, 1)
        sets.append({codes.setdefault(tuple(found[i : i + 3]), len(codes)) for i in range(n)} if found else set())
    size = np.array([len(kept) for kept in sets])
    index = np.fromiter((code for kept in sets for code in sorted(kept)), np.int64, size.sum())
    shape = (len(sets), len(codes))
    matrix = csr_array((np.ones(len(index), np.int32), index, np.concatenate([[0], np.cumsum(size)])), shape=shape)
    out: dict[tuple[int, int], float] = {}
    other = matrix.T.tocsr()
    for start in range(0, len(sets), 512):
        common = (matrix[start : start + 512] @ other).tocoo()
        a, b = common.coords[0] + start, common.coords[1]
        likeness = common.data / (size[a] + size[b] - common.data)
        kept = (a < b) & (likeness >= threshold)
        out.update(zip(zip(a[kept].tolist(), b[kept].tolist(), strict=True), likeness[kept].tolist(), strict=True))
    return out


# --- code for a code target


@pytest.fixture(scope="module")
def mixed(shared_data) -> Candidates:
    """A tenth of the pool is code, beside prose, dialogue and roles; the target is the code of a test set."""
    code = read(shared_data / "pools" / f"{CODE}.json").gather_every(5)
    others = [read(shared_data / "pools" / name) for name in OTHERS]
    rows = pl.concat([*others, code]).unique("row_id", keep="first", maintain_order=True)
    goal = read(shared_data / "targets" / "humaneval.jsonl")
    said, wanted = (frame.select(prompt=prompt_of(), response="response") for frame in (rows, goal))
    return Candidates(rows["row_id"], texts=said, targets={"code": Target(wanted)}, groups=rows["source"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 10.0},
        {"top_k": True},
        {"laplace": 1.0, "top_k": True},
        {"length_normalise": True, "top_k": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("budget", [0.02, 0.05])
def test_a_code_target_brings_code(mixed, options, budget):
    code = (mixed.groups == CODE).to_numpy()
    order = dsir(mixed, round(budget * len(mixed)), 0, hash="fast", **options).order
    by_chance = np.random.default_rng(0).permutation(len(mixed))[: len(order)]
    assert 0.05 < code.mean() < 0.15
    assert code[order].mean() >= 2 * max(code.mean(), code[by_chance].mean())


def test_with_noise_above_all_weights_it_is_chance(mixed):
    code = (mixed.groups == CODE).to_numpy()
    order = dsir(mixed, round(0.05 * len(mixed)), 0, hash="fast", temperature=1e6).order
    assert code[order].mean() < 1.5 * code.mean()


# --- copies go


def test_of_alike_rows_one_stays(shared_data):
    rows = read(shared_data / "pools" / f"{ALIKE}.json").gather_every(3)
    exact = all_pairs(texts_of(rows), DROPPED_FROM)
    gone = twins.resolve(rows["row_id"], pairs_of(rows), DROPPED_FROM)
    number = dict(zip(rows["row_id"].to_list(), range(len(rows)), strict=True))
    dropped = {number[row]: number[twin] for row, twin in gone.select("row_id", "twin").iter_rows()}
    assert len(exact) > 300 and len(dropped) > 150
    assert [pair for pair in exact if not set(pair) & set(dropped)] == []
    for row, twin in dropped.items():
        assert twin not in dropped and exact[min(row, twin), max(row, twin)] >= DROPPED_FROM


# --- rows of two sources


@pytest.fixture(scope="module")
def two(shared_data) -> pl.DataFrame:
    """Both sources in one pool, each row under an id of its source, so that only the text can tell that two are one."""
    frames = [read(shared_data / "pools" / f"{name}.json") for name in (CODE, SAME)]
    return pl.concat(frames).with_columns(row_id=pl.col("source") + ":" + pl.col("row_id"))


def test_equal_rows_have_one_id(shared_data):
    one, other = (set(read(shared_data / "pools" / f"{name}.json")["row_id"]) for name in (CODE, SAME))
    assert one == other and len(one) > 4000


def test_every_row_of_both_sources_is_found(two):
    texts, ids = texts_of(two), two["row_id"].to_list()
    places = defaultdict(list)
    for row, text in enumerate(texts):
        places[same_text(text)].append(row)
    across = {ids[rows[0]]: {ids[row] for row in rows[1:]} for rows in places.values() if len(rows) > 1}
    found = pairs_of(two)
    known = defaultdict(set)
    for a, b in found.filter(pl.col("kind") == twins.SAME_TEXT).select("a", "b").iter_rows():
        known[a].add(b)
    assert known == across and len(across) > 4000
    assert all(a.startswith(CODE) and any(b.startswith(SAME) for b in others) for a, others in across.items())

    first = {row: rows[0] for rows in places.values() for row in rows}
    near = {(min(first[a], first[b]), max(first[a], first[b])) for a, b in all_pairs(texts, DROPPED_FROM)}
    near = {(ids[a], ids[b]) for a, b in near if a != b}
    close = found.filter((pl.col("kind") == twins.NEAR) & (pl.col("similarity") >= DROPPED_FROM))
    assert set(close.select("a", "b").iter_rows()) == near and len(near) > 5
