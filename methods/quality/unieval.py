"""UniEval (survey 3.2): a T5 that was trained to answer questions about a text with yes or no.

Here belong the questions as that model knows them, what is asked about a row (`questions_of`), the shape of the stored
answers (`answers_schema`), and the indicator. No model runs here: it stands in `resources.boolean_qa`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, statused
from methods.tokens import TITLES

# ---- the questions -------------------------------------------------------------------------------------------------
MARK = "</s>"
"""What stands between the parts of a question; taken out of a row's own texts."""


@dataclass(frozen=True)
class Dimension:
    """One question of a task."""

    question: str
    parts: tuple[tuple[str, str], ...]
    """What is shown with the question, in order: its name to the model, and what it is (`PARTS`)."""
    over: Literal["text", "sentence mean", "sentence sum"] = "text"
    """Asked once, or about every sentence of the output, and how the answers are put together."""


PARTS = ("output", "source", "context", "reference")
"""``output``: what is judged; ``source``: the document or what was said before; ``context``: a fact to be used;
``reference``: what a person wrote."""

_CLAIM = Dimension(
    "Is this claim consistent with the document?", (("claim", "output"), ("document", "source")), "sentence mean"
)
DIMENSIONS: Mapping[str, Mapping[str, Dimension]] = MappingProxyType(
    {
        "dialogue": {
            "naturalness": Dimension("Is this a natural response in the dialogue?", (("response", "output"),)),
            "coherence": Dimension(
                "Is this a coherent response given the dialogue history?",
                (("response", "output"), ("dialogue history", "source")),
            ),
            "engagingness": Dimension(
                "Is this an engaging and informative response according to the dialogue history and fact?",
                (("response", "output"), ("dialogue history", "source"), ("fact", "context")),
                "sentence sum",
            ),
            "groundedness": Dimension(
                "Is this response consistent with knowledge in the fact?",
                (("response", "output"), ("fact", "context")),
            ),
            "understandability": Dimension(
                "Is this an understandable response in the dialogue?", (("response", "output"),)
            ),
        },
        "summarization": {
            "coherence": Dimension(
                "Is this a coherent summary to the document?", (("summary", "output"), ("document", "source"))
            ),
            "consistency": _CLAIM,
            "fluency": Dimension("Is this a fluent paragraph?", (("paragraph", "output"),), "sentence mean"),
            "relevance": Dimension(
                "Is this summary relevant to the reference?", (("summary", "output"), ("reference", "reference"))
            ),
        },
        "data2text": {
            "naturalness": Dimension("Is this a fluent utterance?", (("utterance", "output"),)),
            "informativeness": Dimension(
                "Is this sentence informative according to the reference?",
                (("sentence", "output"), ("reference", "reference")),
            ),
        },
        "fact": {"consistency": _CLAIM},
    }
)
"""What the released checkpoints were trained to be asked, word for word: the interface of those models. Other words
give other numbers."""

DEFAULT_TASK, DEFAULT_ASK = "dialogue", ("naturalness", "coherence", "understandability")


def question(dimension: Dimension, **texts: str) -> str:
    """The question as the model reads it; ``texts`` are its `PARTS`."""
    shown = [("question", dimension.question), *((name, texts[part]) for name, part in dimension.parts)]
    return f" {MARK} ".join(f"{name}: {text}" for name, text in shown)


def probability_of_yes(yes: Any, no: Any) -> np.ndarray:
    """P(Yes) / (P(Yes) + P(No)); (.6, .2) gives .75, and NaN where neither can be said."""
    yes, no = np.asarray(yes, dtype=np.float64), np.asarray(no, dtype=np.float64)
    total = yes + no
    return np.where(total > 0, yes / np.where(total > 0, total, 1.0), np.nan)


# ---- sentences -----------------------------------------------------------------------------------------------------
_END = re.compile(r"""[.!?…؟۔।॥]+["'”’»)\]]*(?=\s|$)|[。！？｡]+["'”’」』»）)\]]*|\s*[\r\n]+\s*""")
_LAST_WORD = re.compile(r"(\w+)\.$")
_SHORT = re.compile(r"(?:^|[\s(])(?:\w\.)+$")


def sentences(text: str) -> list[str]:
    """A text cut behind its full stops and at its line breaks; a stretch without a letter or digit is none.

    A point after a title (``Dr.``) or after single letters (``e.g.``, an initial) ends nothing.
    """
    cut, start = [], 0
    for found in _END.finditer(text):
        so_far = text[start : found.end()].strip()
        word = _LAST_WORD.search(so_far)
        if found[0] == "." and (_SHORT.search(so_far) or (word and word[1].lower() in TITLES)):
            continue
        cut.append(so_far)
        start = found.end()
    cut.append(text[start:].strip())
    return [one for one in cut if any(map(str.isalnum, one))]


# ---- what is asked of rows, and what is stored -----------------------------------------------------------------------
def asked(task: str = DEFAULT_TASK, ask: Sequence[str] = DEFAULT_ASK, dimension: str = "overall") -> tuple[str, ...]:
    """The dimensions that are asked about: those of ``ask``, and the one that is wanted. Refuses what cannot be asked
    of a row: a reference is something that rows do not have."""
    if task not in DIMENSIONS:
        raise ValueError(f"task must be one of {', '.join(DIMENSIONS)}, not {task!r}")
    if isinstance(ask, str) or not ask:
        raise ValueError(f'ask must be a list of dimensions, e.g. ["naturalness"], not {ask!r}')
    found = tuple(dict.fromkeys((*ask, *(() if dimension == "overall" else (dimension,)))))
    for name in found:
        if name not in DIMENSIONS[task]:
            raise ValueError(f"{task} has no dimension {name!r}; it has {', '.join(DIMENSIONS[task])}, or overall")
        if any(part == "reference" for _, part in DIMENSIONS[task][name].parts):
            raise ValueError(f"{name} of {task} asks for a reference answer, which rows do not have")
    return found


def answers_schema(dimensions: Sequence[str]) -> dict[str, Any]:
    """One line a row: a status, whether the model saw only the beginning of some question, and a value a dimension.

    A value is null where the row lacks what is asked about (an input, for dimensions with a fact).
    """
    return {"row_id": pl.String, "status": pl.String, "truncated": pl.Boolean} | dict.fromkeys(dimensions, pl.Float64)


@dataclass(frozen=True)
class Questions:
    """Everything that is asked of some rows, one after another."""

    texts: list[str]
    row: np.ndarray
    """int64: of which row each is."""
    dimension: np.ndarray
    """int64: of which of the dimensions each is."""


def questions_of(rows: pl.DataFrame, dimensions: Sequence[str], task: str = DEFAULT_TASK) -> Questions:
    """The questions about rows with ``instruction, input, response``; none about a blank response.

    The response is the output, the instruction and, on the next line, the input the source, the input the context.
    Where the context is a part of the question, the source is the instruction alone.
    """
    texts: list[str] = []
    row: list[int] = []
    which: list[int] = []
    for at, line in enumerate(rows.select("instruction", "input", "response").iter_rows()):
        instruction, given, response = ((text or "").replace(MARK, " ").strip() for text in line)
        if not response:
            continue
        pieces: list[str] | None = None
        for number, name in enumerate(dimensions):
            dimension = DIMENSIONS[task][name]
            apart = any(part == "context" for _, part in dimension.parts)
            if apart and not given:
                continue
            source = instruction if apart else "\n".join(filter(None, (instruction, given)))
            outputs = [response]
            if dimension.over != "text":
                pieces = (sentences(response) or [response]) if pieces is None else pieces
                outputs = pieces
            texts += [question(dimension, output=output, source=source, context=given) for output in outputs]
            row += [at] * len(outputs)
            which += [number] * len(outputs)
    return Questions(texts, np.array(row, dtype=np.int64), np.array(which, dtype=np.int64))


def gathered(
    rows: pl.DataFrame,
    dimensions: Sequence[str],
    asked: Questions,
    chance: np.ndarray,
    status: Sequence[str],
    truncated: np.ndarray,
    task: str = DEFAULT_TASK,
) -> pl.DataFrame:
    """`answers_schema` of some rows from the chance of yes to each question, NaN where it was not read.

    A row of which any question was not read has that question's status and no value.
    """
    of_all = asked.row * len(dimensions) + asked.dimension
    cells = rows.height * len(dimensions)
    counts = np.bincount(of_all, minlength=cells)
    sums = np.bincount(of_all, weights=chance, minlength=cells)
    sums, counts = (table.reshape(rows.height, len(dimensions)) for table in (sums, counts))
    blank = (rows["response"].fill_null("").str.strip_chars() == "").to_list()
    said = ["empty_response" if empty else OK for empty in blank]
    for at, why in zip(asked.row.tolist(), status, strict=True):
        if why != OK and said[at] == OK:
            said[at] = why
    cut = np.bincount(asked.row, weights=truncated, minlength=rows.height) > 0
    fine = np.array([one == OK for one in said], dtype=bool)
    columns: dict[str, Any] = {"row_id": rows["row_id"], "status": said, "truncated": pl.Series(cut)}
    for number, name in enumerate(dimensions):
        by = counts[:, number] if DIMENSIONS[task][name].over == "sentence mean" else 1
        values = pl.Series(sums[:, number] / np.maximum(by, 1))
        there = pl.Series(fine & (counts[:, number] > 0))
        columns[name] = values.zip_with(there, pl.Series([None], dtype=pl.Float64))
    return pl.DataFrame(columns, schema=answers_schema(dimensions))


# ---- the indicator -------------------------------------------------------------------------------------------------
def unieval(
    block: pl.DataFrame,
    task: str = DEFAULT_TASK,
    dimension: str = "overall",
    ask: Sequence[str] = DEFAULT_ASK,
    keep_truncated: bool = True,
) -> pl.DataFrame:
    """How sure a model, trained to judge texts, is that the answer to a question about the response is yes.

    Equation: P(Yes) / (P(Yes) + P(No)), the probabilities of the first word of the answer over the whole vocabulary
    (= sigmoid of the difference of the two logits). P(Yes) = .6 and P(No) = .2 give .75. Consistency and fluency are
    means over the sentences of the response, engagingness is a sum; overall is the mean of the dimensions asked.

    Direction: higher. Between 0 and 1, except engagingness, which grows with the number of sentences and may exceed 1,
    and takes overall with it where it is asked.

    Parameters: `task` is what the checkpoint was trained for (`dialogue`, `summarization`, `data2text`, `fact`). `ask`
    are the dimensions that the model is asked about: naturalness, coherence and understandability of a dialogue by
    default, as InstructMining does. `dimension` is the one to read, or `overall`; one that is not in `ask` is asked
    too. Asking for others gathers the evidence anew. `keep_truncated` also scores rows of which the model saw only
    the first 1024 tokens, as the reference does.

    Statuses: `no_input` (the dimension asks about a fact: the row's input); `not_asked` (the evidence was gathered
    without the dimension); `truncated` unless `keep_truncated`; `empty_response`; any status of the model's pass.

    Source: Zhong et al. 2022, UniEval (arXiv 2210.07197); for instructions Cao et al. 2023, InstructMining
    (arXiv 2307.06290).

    Departures: the survey says that all lie between 0 and 1, which a sum does not. Sentences are cut by a rule of ours.
    The dialogue history is the row's prompt, the fact its input; a row without one has no engagingness and no
    groundedness. Relevance and informativeness need a reference answer, which rows do not have.
    """
    known = asked(task, ask, dimension)
    read = known if dimension == "overall" else (dimension,)
    if missing := [name for name in read if name not in block.columns]:
        block = block.with_columns(pl.lit(None, pl.Float64).alias(name) for name in missing)
    said: Any = pl.when(pl.col("status") != OK).then("status")
    cut = pl.col("truncated").fill_null(False) & (not keep_truncated)
    said = said.when(pl.lit(bool(missing))).then(pl.lit("not_asked"))
    for name in read:
        said = said.when(pl.col(name).is_null()).then(pl.lit("no_input"))
    status = said.when(cut).then(pl.lit("truncated")).otherwise(pl.lit(OK)).alias("status")
    values = pl.sum_horizontal(read, ignore_nulls=False) / len(read)
    found = block.select(status, value=values)
    return statused(found["value"], found["status"])


INDICATORS = (
    Indicator(
        id="unieval",
        title="UniEval",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"\frac{P(Yes)}{P(Yes) + P(No)}",
        paper="Zhong et al. 2022, Towards a Unified Multi-Dimensional Evaluator for Text Generation, arXiv 2210.07197",
        meaning="Near 1 a model that was trained to judge texts finds the answer natural, coherent and understandable; "
        "near 0 it does not.",
        needs=("evidence/unieval",),
        cost="gpu",
        params={"task": DEFAULT_TASK, "dimension": "overall", "ask": DEFAULT_ASK, "keep_truncated": True},
        direction="higher",
        compute=unieval,
    ),
)
