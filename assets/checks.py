"""What each stage promises of its tables.

Here belong the expectations, as plain data, one suite a stage: a *contract* that a table must keep to replace the one
before it (schema, keys, ranges, counts, ids that come from the stage before, budget kept), and *statistics* that are
worth a look and stop nothing (shares, drift).  How a suite is run and shown stands in `expectations.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from assets.expectations import Expectation, SuiteResult, run_suite


@dataclass(frozen=True)
class Suite:
    """Expectations of columns, and of the facts that an asset counted while it made its table."""

    columns: tuple[Expectation, ...] = ()
    facts: tuple[Expectation, ...] = ()
    statistics: tuple[Expectation, ...] = ()

    def run(self, frame: pl.LazyFrame, facts: Mapping[str, Any]) -> tuple[SuiteResult, SuiteResult]:
        """The contract's result and the statistics' result."""
        counted = _facts_frame(facts)

        def there(expectation: Expectation) -> bool:
            return expectation.kwargs["column"] in counted.columns

        kept, told = list(filter(there, self.facts)), list(filter(there, self.statistics))
        absent = run_suite([e for e in self.facts if not there(e)], counted).outcomes
        # Facts and statistics are of one table: held against it together, which halves the cost of a small table.
        outcomes = run_suite([*kept, *told], counted).outcomes
        contract = run_suite(self.columns, frame).outcomes + absent + outcomes[: len(kept)]
        return SuiteResult(contract), SuiteResult(outcomes[len(kept) :])


def _facts_frame(facts: Mapping[str, Any]) -> pl.DataFrame:
    numbers = {key: float(value) for key, value in facts.items() if isinstance(value, int | float)}
    rows, before = numbers.get("rows"), numbers.get("rows before")
    if rows is not None and before:
        numbers["growth"] = rows / before
    return pl.DataFrame({key: [value] for key, value in numbers.items()} or {"rows": [0.0]})


def unique(*columns: str, why: str) -> Expectation:
    """No two rows share these columns."""
    if len(columns) == 1:
        return Expectation("ExpectColumnValuesToBeUnique", {"column": columns[0]}, why)
    return Expectation("ExpectCompoundColumnsToBeUnique", {"column_list": list(columns)}, why)


def filled(column: str, why: str) -> Expectation:
    """No null."""
    return Expectation("ExpectColumnValuesToNotBeNull", {"column": column}, why)


def between(column: str, low: float | None, high: float | None, why: str) -> Expectation:
    """Every value (null aside) lies in this closed range."""
    return Expectation("ExpectColumnValuesToBeBetween", {"column": column, "min_value": low, "max_value": high}, why)


def zero(fact: str, why: str) -> Expectation:
    """A fact that must be nought."""
    return between(fact, 0, 0, why)


def row_id(why: str = "an id is a 128-bit hash in hex") -> Expectation:
    """The shape of a row id."""
    return Expectation("ExpectColumnValuesToMatchRegex", {"column": "row_id", "regex": "^[0-9a-f]{32}$"}, why)


IDS = (row_id(), filled("row_id", "every row has an id"))
ONE_A_ROW = (*IDS, unique("row_id", why="one line a row"))
DRIFT = (between("growth", 0.5, 2.0, "half or double the rows of the last version is worth a look"),)

RAW = Suite(
    columns=(
        *IDS,
        unique("position", "part", why="a place in the file is read once"),
        between("position", 0, None, "positions count from 0"),
        filled("instruction", "missing text is empty text, never null"),
        filled("response", "missing text is empty text, never null"),
    ),
    facts=(
        zero("records lost", "records = records with rows + quarantined records"),
        between("rows", 1, None, "a source without a single readable row is a mistake"),
    ),
    statistics=(between("share quarantined", 0, 0.05, "more than one bad record in twenty"), *DRIFT),
)
QUARANTINE = Suite(columns=(filled("reason", "every bad record has a reason"), filled("detail", "in words")))
FILTERED = Suite(
    columns=(*ONE_A_ROW, filled("response", "kept rows have a response")),
    facts=(
        zero("rows unaccounted", "rows in = rows kept + rows dropped"),
        zero("ids not in raw", "no row comes from nowhere"),
    ),
    statistics=(between("share dropped", 0, 0.5, "more than half of the source is dropped"), *DRIFT),
)
DROPPED = Suite(columns=(*IDS, filled("rule", "every dropped row names its rule"), filled("detail", "in words")))
PAIRS = Suite(
    columns=(between("similarity", 0, 1, "a Jaccard similarity"), unique("a", "b", why="a pair stands once")),
    statistics=(
        between("alarms", 0, 0, "one duplicate cluster eats a large part of a source"),
        between("share near duplicate", 0, 0.5, "more than half of the pool repeats itself"),
    ),
)
POOL = Suite(
    columns=ONE_A_ROW,
    facts=(
        zero("rows unaccounted", "every kept row is listed, alone or as a copy"),
        between("rows", 1, None, "an empty pool has nothing to choose from"),
    ),
)
EVIDENCE = Suite(
    columns=ONE_A_ROW,
    facts=(zero("rows missing", "every row has its line"),),
    statistics=(between("share not ok", 0, 0.2, "more than one row in five without a value"), *DRIFT),
)
SCORED = Suite(
    columns=(*ONE_A_ROW, filled("status", "every line says ok, or why not")),
    facts=(
        zero("rows missing", "every row has its line"),
        zero("values without ok", "a value stands exactly where the status is ok"),
        zero("values not finite", "no NaN, no infinity"),
    ),
    statistics=(
        between("share not ok", 0, 0.2, "more than one row in five without a value"),
        between("drift", 0, 0.2, "the distribution moved: Kolmogorov-Smirnov distance to the last version"),
        *DRIFT,
    ),
)
MODEL = Suite(
    columns=(between("cluster", 0, None, "clusters count from 0"), between("size", 1, None, "no empty cluster"))
)
CLUSTERED = Suite(
    columns=(*ONE_A_ROW, between("cluster", -1, None, "-1: none (noise, or nothing to go by)")),
    facts=(zero("rows missing", "every row has its label"),),
)
SELECTED = Suite(
    columns=(
        *ONE_A_ROW,
        unique("rank", why="a rank is given once"),
        between("rank", 1, None, "ranks count from 1"),
        filled("reason", "every chosen row says why"),
        filled("weight", "every chosen row counts for something in training"),
        between("weight", 0, None, "no row counts for less than nothing"),
    ),
    facts=(
        zero("rows over budget", "the budget is kept"),
        zero("ids not in pool", "only rows of the pool are chosen"),
        zero("rows unaccounted", "rows in = selected + dropped with a reason + not chosen"),
    ),
    statistics=(
        between("share of budget used", 0.9, 1.0, "the selector ran out of rows before the budget"),
        between("kept from before", 0.5, 1.0, "more than half of the subset changed"),
    ),
)
TRAINING_ROWS = Suite(
    columns=(
        *ONE_A_ROW,
        unique("rank", why="a rank is given once"),
        between("rank", 1, None, "ranks count from 1"),
        filled("reason", "every chosen row says why"),
    ),
    facts=(between("rows", 1, None, "there is nothing to train on"),),
    statistics=(between("share of pool", 0, 0.5, "the model would be asked about rows that it was mostly trained on"),),
)
TRAINING = Suite(
    columns=(unique("step", why="a step is made once"), filled("loss", "every step has its loss")),
    facts=(between("rows trained on", 1, None, "there was nothing to learn"),),
)
SUBSET_RUNS = Suite(
    columns=(
        unique("run", why="a run is made once"),
        between("n", 1, None, "a run trains on rows"),
        between("eval_loss", 0, None, "a mean of -ln p"),
        filled("status", "every line says ok, or why not"),
    ),
    facts=(between("rows", 1, None, "a ledger has runs"),),
    statistics=(between("share not ok", 0, 0, "every run comes to a loss"),),
)
RULE = Suite(
    columns=(unique("term", why="a term stands once"), between("p_value", 0, 1, "a probability")),
    statistics=(between("too few runs", 0, 0, "with so few runs a rule follows chance"),),
)
SIZES = Suite(
    columns=(unique("size", why="a size is tried once"), between("size", 1, None, "sizes count rows")),
    facts=(between("rows", 1, None, "some size was tried"),),
)
SEMANTIC_PAIRS = Suite(
    columns=(
        between("similarity", 0, 1, "a cosine, from the threshold upwards"),
        unique("a", "b", why="a pair stands once"),
    ),
    facts=(
        zero("ids not in pool", "only rows of the pool have pairs"),
        zero("pairs of a row with itself", "a row is not its own twin"),
    ),
    statistics=(
        between("alarms", 0, 0, "one row stands for a large part of a source"),
        between("share with an earlier twin", 0, 0.5, "more than half of the pool means what another row means"),
        between(
            "rows with more twins than listed", 0, 0, "more alike rows than are listed: a template, or a low threshold"
        ),
    ),
)
LABEL_FIELDS = ("row_id", "rater", "dimension", "value")
JUDGED_PAIRS = Suite(
    columns=(unique("a", "b", why="a pair stands once"), between("probability", 0, 1, "a share of votes")),
    statistics=(
        between("cells open", 0, 0, "some pairs have no answer yet"),
        between("share not ok", 0, 0.1, "more than a tenth of the pairs have no valid votes"),
        between("first preferred", 0.35, 0.65, "the judge prefers a place rather than a text"),
        between("longer preferred", 0.2, 0.8, "the judge goes by length"),
    ),
)
STRENGTHS = Suite(
    columns=ONE_A_ROW,
    statistics=(
        between("components", 1, 1, "strengths of rows that no chain of pairs joins cannot be compared"),
        between("converged", 1, 1, "the fit did not come to rest"),
    ),
)
LABELS = Suite(
    columns=tuple(filled(name, "a label says who gave what for which row") for name in LABEL_FIELDS),
    statistics=(zero("bad lines", "lines of label files that could not be read"),),
)
RATINGS = Suite(columns=(filled("row_id", "ratings are of rows"), unique("row_id", why="one line a row")))
AGREEMENT = Suite(
    statistics=(
        between("value", -1, 1, "agreement"),
        zero("alarms", "raters agree too little for their labels to be used"),
    )
)
CALIBRATION = Suite(
    columns=(unique("indicator", "dimension", why="a pair stands once"), between("spearman", -1, 1, "a correlation")),
)
MODS_CHOSEN = Suite(
    columns=(*ONE_A_ROW, filled("step", "seed or necessity"), filled("reason", "every chosen row says why")),
    facts=(zero("ids not in pool", "only rows of the pool are chosen"),),
)
EXPLORED = Suite(
    columns=(unique("task", why="a task stands once"), filled("task", "every line is of a task")),
    statistics=DRIFT,
)
TARGETS = Suite(
    columns=(row_id(), filled("target", "every row is of a target")),
    statistics=(between("rows that are in the pool", 0, 0, "what is tested on must not be trained on"),),
)
TUNED = Suite(facts=(between("rows", 1, None, "there was nothing to learn from"),))
CARD = Suite(
    columns=(filled("measure", "every line names its measure"),), facts=(between("rows", 1, None, "a card has lines"),)
)

VOCABULARY = Suite(
    columns=(
        unique("raw", why="a tag's fate is told once"),
        between("rows", 1, None, "a tag stands somewhere"),
    ),
    statistics=(between("tags: association", 1, None, "no tag is left: min_count is high for so few rows"),),
)
TAGGED = Suite(
    columns=(*ONE_A_ROW, filled("status", "every line says ok, or why not")),
    facts=(zero("rows missing", "every row of the pool has its line"),),
    statistics=(
        between("share not ok", 0, 0.2, "more than one row in five without tags"),
        between("tags that the vocabulary lacks", 0, 0, "the vocabulary is older than the tags: make it again"),
    ),
)
CORRECTED = Suite(
    columns=(*ONE_A_ROW, filled("decision", "every answer is decided on"), filled("why", "in words")),
    facts=(zero("rows missing", "every row of the pool has its line"),),
    statistics=(between("share not ok", 0, 0.2, "more than one row in five that nothing is known of"),),
)

STAGES: Mapping[str, Suite] = {
    "raw": RAW,
    "raw/quarantine": QUARANTINE,
    "filtered": FILTERED,
    "filtered/dropped": DROPPED,
    "filtered/signatures": EVIDENCE,
    "filtered/duplicates": PAIRS,
    "filtered/pool": POOL,
    "evidence": EVIDENCE,
    "evidence/semantic_pairs": SEMANTIC_PAIRS,
    "embedded": EVIDENCE,
    "clustered": CLUSTERED,
    "clustered/kmeans_model": MODEL,
    "tagged": TAGGED,
    "tagged/instag_vocabulary": VOCABULARY,
    "corrected": CORRECTED,
    "explored": EXPLORED,
    "targets": TARGETS,
    "tuned": TUNED,
    "tuned/warmup_rows": TRAINING_ROWS,
    "tuned/experienced": TRAINING,
    "tuned/subset_runs": SUBSET_RUNS,
    "tuned/instruction_mining_rule": RULE,
    "tuned/instruction_mining_rows": EVIDENCE,
    "tuned/size_search": SIZES,
    "tuned/distilled": EVIDENCE,
    "humans/labels": LABELS,
    "humans/ratings": RATINGS,
    "humans/agreement": AGREEMENT,
    "humans/calibration": CALIBRATION,
    "judged": EVIDENCE,
    "judged/pairs": JUDGED_PAIRS,
    "judged/strengths": STRENGTHS,
    "mods/seed": TRAINING_ROWS,
    "mods/model": TRAINING,
    "mods/answers": EVIDENCE,
    "mods/chosen": MODS_CHOSEN,
    "scored": SCORED,
    "selected": SELECTED,
    "evaluated": CARD,
}


def suite_of(key: Sequence[str]) -> Suite:
    """The suite of an asset: its own, or its stage's."""
    return STAGES.get("/".join(key)) or STAGES.get(key[0], Suite())
