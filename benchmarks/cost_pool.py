"""The synthetic pool on which the cost of selectors is measured.

Here belongs what stands in for a recipe's columns (vectors, scores, clusters, texts, tags, targets): seeded and made
block by block, so that a pool is the same on every run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from methods.kinds import Candidates, Target

MOST = 2000
DIMENSIONS, BLOCK, TARGETS, GROUPS, TAGS, WORDS = 384, 10_000, 100, 10, 2000, 5000
NOISE, COPIES = 1.2, 0.05


def budget_of(rows: int) -> int:
    """One row in a hundred, `MOST` at most."""
    return max(1, min(MOST, rows // 100))


def pool(rows: int, needs: tuple[str, ...], seed: int = 0) -> Candidates:
    """Candidates with the fields in ``needs``, and no others.

    Vectors: as many clusters as the square root of the rows, of uneven sizes, unit centres with noise of 1.2 times
    their length; one row in twenty is nearly a copy of another. Scores and values are drawn by themselves, texts have
    10 to 30 words of a long-tailed vocabulary in the prompt and in the response, tags are 1 to 5 of 2,000, and targets
    are 100 rows like those of the first clusters.
    """
    rng = np.random.default_rng([seed, rows])
    ids = pl.int_range(rows, eager=True).cast(pl.String).alias("row_id")
    found: dict[str, Any] = {}
    if {"vectors", "clusters", "target_vectors"} & set(needs):
        centres = rng.standard_normal((max(1, round(rows**0.5)), DIMENSIONS), dtype=np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        share = rng.lognormal(size=len(centres))
        label = rng.choice(len(centres), rows, p=share / share.sum())
        if "clusters" in needs:
            found["clusters"] = label.astype(np.int64)
        if "vectors" in needs:
            found["vectors"] = vectors_of(centres, label, seed)
    if "score" in needs:
        found["score"] = rng.standard_normal(rows)
    if "groups" in needs:
        found["groups"] = pl.Series([f"source {i}" for i in range(GROUPS)]).gather(rng.integers(0, GROUPS, rows))
    if "values" in needs:
        seeds, places = np.full(rows, np.nan), rng.permutation(rows)[: budget_of(rows)]
        seeds[places] = np.arange(len(places)) + 1.0
        found["values"] = {
            "ifd": rng.beta(8, 2, rows) * 1.1,
            "ifd_experienced": rng.beta(8, 2, rows) * 1.1,
            "loss": rng.gamma(4, 0.3, rows),
            "mods_seed": seeds,
            "reward_necessity": rng.normal(-1, 1, rows),
        }
    if "texts" in needs:
        found["texts"] = pl.DataFrame(
            {field: texts_of(rows, [seed, i]) for i, field in enumerate(("prompt", "response"))}
        )
    if "tags" in needs:
        found["tags"] = lists_of(pl.Series([f"tag {i}" for i in range(TAGS)]), rows, (1, 5), [seed, 2])
    if {"target_texts", "target_vectors"} & set(needs):
        texts = pl.DataFrame({field: texts_of(TARGETS, [seed, 3, i]) for i, field in enumerate(("prompt", "response"))})
        some = np.arange(TARGETS) % min(5, len(centres)) if "target_vectors" in needs else None
        found["targets"] = {"goal": Target(texts, None if some is None else vectors_of(centres, some, seed + 1))}
    return Candidates(ids, **found)


def vectors_of(centres: np.ndarray, label: np.ndarray, seed: int) -> np.ndarray:
    """(n, d) float32 of unit length, a block at a time."""
    made = np.empty((len(label), DIMENSIONS), dtype=np.float32)
    for number, start in enumerate(range(0, len(label), BLOCK)):
        rng = np.random.default_rng([seed, 1, number])
        part = centres[label[start : start + BLOCK]]
        part += NOISE / DIMENSIONS**0.5 * rng.standard_normal(part.shape, dtype=np.float32)
        again = rng.permutation(len(part))[: 2 * int(COPIES * len(part))].reshape(2, -1)
        part[again[0]] = part[again[1]] + 0.1 / DIMENSIONS**0.5 * rng.standard_normal(
            (again.shape[1], DIMENSIONS), dtype=np.float32
        )
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        made[start : start + len(part)] = part
    return made


def texts_of(rows: int, seed: list[int]) -> pl.Series:
    """Texts of 10 to 30 words, the w-th of them as frequent as 1 / (w + 10)."""
    rank = 1 / (np.arange(WORDS) + 10)
    words = pl.Series([f"w{i:x}" for i in range(WORDS)])
    return lists_of(words, rows, (10, 30), seed, rank / rank.sum()).list.join(" ")


def lists_of(
    names: pl.Series, rows: int, lengths: tuple[int, int], seed: list[int], p: np.ndarray | None = None
) -> pl.Series:
    """List(String) of so many names a row, a block at a time."""
    mass = np.cumsum(np.full(len(names), 1 / len(names)) if p is None else p)
    parts = []
    for number, start in enumerate(range(0, rows, BLOCK)):
        rng = np.random.default_rng([*seed, number])
        length = rng.integers(lengths[0], lengths[1] + 1, min(BLOCK, rows - start))
        drawn = np.minimum(np.searchsorted(mass, rng.random(int(length.sum()))), len(names) - 1)
        row = np.repeat(np.arange(len(length)), length)
        lines = pl.DataFrame({"row": row, "name": names.gather(drawn)})
        parts.append(lines.group_by("row", maintain_order=True).agg("name")["name"])
    return pl.concat(parts).rechunk()


def size_of(found: Candidates) -> int:
    """Bytes of all fields."""
    total = found.row_ids.estimated_size()
    for field in (found.score, found.vectors, found.clusters, *found.values.values()):
        total += 0 if field is None else field.nbytes
    for table in (found.groups, found.texts, found.tags):
        total += 0 if table is None else table.estimated_size()
    for target in found.targets.values():
        total += target.texts.estimated_size() + (0 if target.vectors is None else target.vectors.nbytes)
    return int(total)
