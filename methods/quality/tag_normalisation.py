"""Tags in a judge's own words, brought to one vocabulary, and how many a row has (InsTag).

Here belong the four steps of the normalisation, what became of each tag and why, and the indicator that counts. Asking
for tags is `methods.judging.tagging`; choosing by them `methods.diversity.tag_sampling`, measuring sets by them
`methods.diversity.measures`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from methods.kinds import Encode, Indicator, Pool, statused

STEPS = ("frequency", "rules", "semantic", "association")
KEPT, OFF = "kept", "off"
DEFAULTS: Mapping[str, Any] = {
    "min_count": 20,
    "count_by": "surface",
    "language": "english",
    "distance": 0.05,
    "min_support": 40,
    "min_confidence": 0.99,
}
VOCABULARY_SCHEMA = pl.Schema(
    {
        "raw": pl.String(),  # as the judge wrote it
        "rows": pl.Int64(),  # rows that it was given to
        "tag": pl.String(),  # what it is called in the end; null: dropped
        "step": pl.String(),  # the last step that changed it; `kept` where none did
        "path": pl.List(pl.String()),  # its names in turn, from raw to tag
        "why": pl.List(pl.String()),  # what each change was made for
    }
)
"""One line for each tag that a judge gave, most frequent first."""
TABLE = "tagged/instag"
_CELLS = 2**24
"""Of the square of names by names that are looked at together."""

Changes = dict[str, tuple[str | None, str]]
"""Name -> its new name (None: it goes), and why."""


@dataclass(frozen=True)
class Normalised:
    """A vocabulary, and how many different tags each step left."""

    vocabulary: pl.DataFrame
    """`VOCABULARY_SCHEMA`."""
    counts: dict[str, int]
    """``raw``, then the steps."""


def normalise(
    tags: pl.Series,
    encode: Encode,
    min_count: int = 20,
    count_by: str = "surface",
    language: str = "english",
    distance: float | str = 0.05,
    min_support: int = 40,
    min_confidence: float | str = 0.99,
) -> Normalised:
    """One vocabulary out of the tags of many rows (List(String); null: the row has not been tagged).

    Algorithm, in InsTag's order; a tag's count is the number of rows that have it:

    1. Frequency: tags of fewer than `min_count` rows go.
    2. Rules: compatibility forms (NFKC), letter case, punctuation, white space and the endings of words (Snowball's
       stems) make no difference. Tags that are then the same get the form that most rows have, in lower case.
    3. Meaning: DBSCAN over the embeddings of the names, eps = `distance` (1 - cosine) and two points to a cluster.
       A cluster takes the name that most rows have.
    4. Association: where the rule a => b has support |rows(a) & rows(b)| >= `min_support` and confidence
       |rows(a) & rows(b)|/|rows(a)| >= `min_confidence`, a becomes b; of several b the one of most confidence, then of
       most rows. It is done again until no rule is left.

    All ties go to the name that sorts first.

    Parameters: `count_by` = "surface" counts tags as they were written, "rules" counts together what step 2 makes one,
    which saves tags that are written in many ways; `language` is one of Snowball's, "off" leaves endings as they
    are; "off" for `distance` or `min_confidence` leaves that step out.

    Source: Lu et al. 2023, InsTag (arXiv 2308.07074). The thresholds could not be checked against the paper.

    Departures: of `+` and `#` what stands right behind a letter or digit stays, for C, C++ and C# are three things. The
    encoder is the one handed in (the paper's is PhraseBERT). With two points to a cluster, DBSCAN is the connected
    components of the pairs within eps, which are found block by block. Frequent itemsets are mined up to pairs: a rule
    with one tag on either side is all that merges a tag into a tag, and pairs are counted exactly. A tag only becomes
    one of more rows, so that no two can become each other. Step 3 chains: a name may be farther than `distance` from
    the one that it gets; `why` tells how far.
    """
    if count_by not in ("surface", "rules"):
        raise ValueError(f"count_by must be 'surface' or 'rules', not {count_by!r}")
    eps = _number("distance", distance, 2)
    confidence = _number("min_confidence", min_confidence, 1)
    told = _Told(_flat(tags))
    counted_as = (lambda tag: key_of(tag, language)) if count_by == "rules" else str
    told.take("frequency", _rare(told.rows, min_count, counted_as))
    told.take("rules", _alike(told.rows, language))
    told.take("semantic", {} if eps is None else _near(told.counts(), encode, eps))
    while changes := {} if confidence is None else _together(told.rows, min_support, confidence):
        told.take("association", changes)
    told.sizes.setdefault("association", len(told.counts()))
    return Normalised(told.vocabulary(), told.sizes)


def _number(name: str, value: float | str, most: float) -> float | None:
    """A parameter above 0, or None where it is off."""
    if value == OFF:
        return None
    if isinstance(value, str) or not 0 < value <= most:
        raise ValueError(f"{name} must be above 0 and at most {most}, or 'off', got {value!r}")
    return float(value)


def _flat(tags: pl.Series) -> pl.DataFrame:
    """``row`` and ``tag``, each pair once, without empty tags."""
    table = tags.cast(pl.List(pl.String)).alias("tag").to_frame().with_row_index("row")
    found = table.explode("tag").drop_nulls().filter(pl.col("tag").str.strip_chars() != "")
    return found.unique(maintain_order=True)


class _Told:
    """What has become of each tag so far, and which rows have which."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        self.raw = self.counts()
        self.paths: dict[str, list[str | None]] = {raw: [raw] for raw in self.raw}
        self.why: dict[str, list[str]] = {raw: [] for raw in self.raw}
        self.step = dict.fromkeys(self.raw, KEPT)
        self.sizes = {"raw": len(self.raw)}

    def counts(self) -> dict[str, int]:
        """Rows of each name, most first."""
        counted = self.rows.group_by("tag").agg(n=pl.len()).sort("n", "tag", descending=[True, False])
        return dict(counted.iter_rows())

    def take(self, step: str, changes: Changes) -> None:
        """Write the changes of a step down, and make them in the rows."""
        for raw, path in self.paths.items():
            now = path[-1]
            if now is not None and now in changes:
                new, why = changes[now]
                path.append(new)
                self.why[raw].append(f"{step}: {why}")
                self.step[raw] = step
        if changes:
            new_names = [new for new, _ in changes.values()]
            renamed = pl.DataFrame(
                {"tag": list(changes), "new": new_names, "changed": True},
                schema={"tag": pl.String, "new": pl.String, "changed": pl.Boolean},
            )
            joined = self.rows.join(renamed, on="tag", how="left", maintain_order="left")
            name = pl.when(pl.col("changed")).then("new").otherwise("tag")
            self.rows = joined.select("row", tag=name).drop_nulls().unique(maintain_order=True)
        self.sizes[step] = self.rows["tag"].n_unique()

    def vocabulary(self) -> pl.DataFrame:
        lines = [
            (raw, n, self.paths[raw][-1], self.step[raw], [name for name in self.paths[raw] if name], self.why[raw])
            for raw, n in self.raw.items()
        ]
        return pl.DataFrame(lines, schema=VOCABULARY_SCHEMA, orient="row")


# --- 1. frequency ----------------------------------------------------------------------------------------------------
def _rare(rows: pl.DataFrame, least: int, counted_as: Callable[[str], str]) -> Changes:
    """The tags that too few rows have."""
    keyed = rows.with_columns(key=_mapped(rows["tag"], counted_as))
    counted = keyed.with_columns(n=pl.col("row").n_unique().over("key"))
    rare = counted.filter(pl.col("n") < least).select("tag", "n").unique("tag", maintain_order=True)
    return {tag: (None, f"{n} {'row' if n == 1 else 'rows'}, fewer than {least}") for tag, n in rare.iter_rows()}


# --- 2. rules --------------------------------------------------------------------------------------------------------
def surface_of(tag: str) -> str:
    """A tag as it is shown: compatibility forms, lower case, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", tag).lower().split())


def key_of(tag: str, language: str = "english") -> str:
    """What of a tag makes a difference: the stems of its words. Empty where it has no letter and no digit."""
    said = ""
    for sign in unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tag).casefold()):
        letter = unicodedata.category(sign)[0] in "LNM" or (sign in "+#" and said[-1:].strip())
        said += sign if letter else " "
    words = said.split()
    return " ".join(words if language == OFF else _stemmer(language).stemWords(words))


@lru_cache(maxsize=4)
def _stemmer(language: str) -> Any:
    import Stemmer

    if language not in Stemmer.algorithms():
        raise ValueError(f"there are no stems for {language!r}; there are for {', '.join(Stemmer.algorithms())}")
    return Stemmer.Stemmer(language)


def _alike(rows: pl.DataFrame, language: str) -> Changes:
    """Tags that are the same by the rules, under the form that most rows have."""
    named = rows.with_columns(
        surface=_mapped(rows["tag"], surface_of), key=_mapped(rows["tag"], lambda tag: key_of(tag, language))
    )
    forms = named.group_by("key", "surface").agg(n=pl.col("row").n_unique())
    best = forms.sort("n", "surface", descending=[True, False]).unique("key", keep="first", maintain_order=True)
    names = dict(best.select("key", "surface").iter_rows())
    changes: Changes = {}
    for tag, surface, key in named.select("tag", "surface", "key").unique("tag", maintain_order=True).iter_rows():
        if not key:
            changes[tag] = (None, "no letter and no digit")
        elif names[key] != tag:
            how = "written in its common form" if names[key] == surface else f"the same stems, {key!r}"
            changes[tag] = (names[key], how)
    return changes


def _mapped(tags: pl.Series, of: Callable[[str], str]) -> pl.Series:
    """A text for each tag, worked out once for each different one."""
    different = tags.unique(maintain_order=True).to_list()
    return tags.replace_strict(different, [of(tag) for tag in different], return_dtype=pl.String)


# --- 3. meaning ------------------------------------------------------------------------------------------------------
def _near(counts: Mapping[str, int], encode: Encode, distance: float) -> Changes:
    """Names that mean nearly the same, under the one that most rows have."""
    if len(counts) < 2:
        return {}
    names = list(counts)  # most rows first
    vectors = np.asarray(encode(names), dtype=np.float64)
    there = np.flatnonzero(np.isfinite(vectors).all(axis=1) & (np.linalg.norm(vectors, axis=1) > 0))
    unit = vectors[there] / np.linalg.norm(vectors[there], axis=1, keepdims=True)
    first: dict[int, int] = {}
    changes: Changes = {}
    for place, label in enumerate(connected(unit, distance)):
        head = first.setdefault(int(label), place)
        if head != place:
            name, cosine = names[there[head]], float(unit[head] @ unit[place])
            changes[names[there[place]]] = (name, f"cosine {cosine:.3f} to {name!r}")
    return changes


def connected(unit: np.ndarray, distance: float) -> np.ndarray:
    """(n,) int labels of the connected components of the pairs with 1 - cosine <= ``distance``: what DBSCAN finds with
    two points to a cluster, each noise point a component of its own. In blocks of rows."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    labels = np.arange(len(unit))
    block = max(1, _CELLS // max(len(unit), 1))
    for start in range(0, len(unit), block):
        part = unit[start : start + block] @ unit[start:].T
        one, other = np.nonzero(part >= 1.0 - distance - 1e-12)
        ends = (labels[one + start], labels[other + start])
        joined = coo_array((np.ones(len(one), dtype=np.float32), ends), shape=(len(unit), len(unit)))
        labels = connected_components(joined, directed=False)[1][labels]
    return labels


# --- 4. association --------------------------------------------------------------------------------------------------
def _together(rows: pl.DataFrame, least: int, confidence: float) -> Changes:
    """Tags that (nearly) always stand beside another of more rows: that one. Chains are followed to their end."""
    from scipy.sparse import csc_array

    if rows.is_empty():
        return {}
    order = rows.group_by("tag").agg(n=pl.len()).sort("n", "tag", descending=[True, False])
    names, counts = order["tag"].to_list(), order["n"].to_numpy()
    columns = rows["tag"].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    places = rows["row"].rank("dense").to_numpy().astype(np.int64) - 1
    has = csc_array((np.ones(len(places), dtype=np.int64), (places, columns)), shape=(places.max() + 1, len(names)))
    best: dict[int, tuple[int, int]] = {}
    block = max(1, _CELLS // len(names))
    for start in range(0, len(names), block):
        both = (has[:, start : start + block].T @ has).tocoo()
        ones, others, n = both.row.astype(np.int64) + start, both.col.astype(np.int64), both.data
        # Names stand in the order of their rows, so that one of more rows has a lower place.
        rule = (others < ones) & (n >= max(least, 1)) & (n >= confidence * counts[ones] * (1 - 1e-12))
        for a, b, support in zip(ones[rule].tolist(), others[rule].tolist(), n[rule].tolist(), strict=True):
            best[a] = min(best.get(a, (0, 0)), (-support, b))
    ends: dict[int, int] = {}
    changes: Changes = {}
    for a in sorted(best):
        n, b = -best[a][0], best[a][1]
        ends[a] = ends.get(b, b)
        why = f"stands beside {names[b]!r} in {n} of its {counts[a]} rows"
        changes[names[a]] = (names[ends[a]], why + ("" if ends[a] == b else f", which becomes {names[ends[a]]!r}"))
    return changes


# --- rows ------------------------------------------------------------------------------------------------------------
def applied(tags: pl.Series, vocabulary: pl.DataFrame) -> pl.Series:
    """List(String): the tags of each row by the vocabulary, distinct, in the order in which the row has them.

    Null where a row has not been tagged; tags that were dropped, or that the vocabulary does not know, are left out.
    """
    names = vocabulary.select(pl.col("raw").alias("tag"), pl.col("tag").alias("name"))
    flat = _flat(tags).join(names, on="tag", how="left", maintain_order="left").drop_nulls("name")
    lists = flat.unique(["row", "name"], keep="first", maintain_order=True).group_by("row").agg("name")
    every = tags.is_not_null().alias("tagged").to_frame().with_row_index("row")
    found = every.join(lists, on="row", how="left", maintain_order="left")
    filled = pl.col("name").fill_null(pl.lit([], dtype=pl.List(pl.String)))
    return found.select(tags=pl.when("tagged").then(filled)).to_series()


def unknown(tags: pl.Series, vocabulary: pl.DataFrame) -> int:
    """How many different tags of these rows the vocabulary does not know."""
    return int((~_flat(tags)["tag"].unique().is_in(vocabulary["raw"].implode())).sum())


def instag_complexity(pool: Pool) -> pl.DataFrame:
    """The number of different tags that a row's request has, after their normalisation.

    Equation: |T(x)|. Rows with the tags {a, b} and {b, c} have 2 each (and the set of both 3, see `tag_count`).

    Direction: higher: a request with many intentions is harder and teaches more at once.

    Statuses: whatever the judge's answer has where it gave no tags (`parse_error`, `refused`, `api_error`,
    `truncated`, `not_asked`, `pending`, `empty_response`); `not_tagged` for a row that the table does not hold. A row
    whose tags were all too rare has 0.

    Source: Lu et al. 2023, InsTag (arXiv 2308.07074).
    """
    table = pool.tables[TABLE].select("status", "tags").collect()
    status = table["status"].fill_null("not_tagged")
    return statused(table["tags"].list.len().cast(pl.Float64), status)


INDICATORS = (
    Indicator(
        id="instag_complexity",
        title="InsTag: number of intentions",
        axis="quality",
        family="judge",
        section="3.3",
        equation=r"\lvert T(x) \rvert",
        paper="Lu et al. 2023, InsTag, arXiv 2308.07074",
        meaning="How many different things a request is about or wants, as a judge's tags say: many for a request that "
        "joins several tasks and demands, one or two for a plain one.",
        needs=(TABLE,),
        cost="llm",
        direction="higher",
        scope="pool",
        compute=instag_complexity,
    ),
)
