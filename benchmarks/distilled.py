"""How well a small model on embeddings learns published labels, beside what the length of the text alone does.

    python -m benchmarks.distilled --data FOLDER [--rows 1500]

Here belongs the measurement of `methods.quality.distillation` on real labels: the folder holds autoj_ratings.jsonl,
prometheus_ratings.json, autoj_scenarios.jsonl and flask_skills.jsonl (those that are missing are left out). Everything
is measured out of fold: five parts by question, each predicted by a model that learned from the other four. Writes
docs/distilled.md.
"""

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from methods.judging.pairs import designed
from methods.quality import distillation, qurating
from resources.encoder import Encoder

OUT = Path(__file__).resolve().parents[1] / "docs" / "distilled.md"
LEVELS = (
    "simple lifestyle knowledge",
    "advanced lifestyle knowledge",
    "formal education knowledge",
    "major level knowledge",
    "expert level knowledge",
)
FOLDS, SEED = 5, 0


@dataclass(frozen=True)
class Labelled:
    """Texts with a label each."""

    title: str
    texts: list[str]
    measured: list[str]
    """What the length baseline counts the characters of."""
    groups: list[str]
    """Questions: rows of one are never on both sides."""
    values: list[float]
    labels: list[str]
    """One of the two is empty."""


# ---- the sets -------------------------------------------------------------------------------------------------------


def autoj_ratings(folder: Path) -> Labelled:
    """GPT-4's rating, 1 to 10, of an answer."""
    form = re.compile(r"\[Query\]: (.*?)\n\*\*\*\n\[Response\]: (.*)\n\*\*\*\n\[END DATA\]", re.DOTALL)
    records = [record for record in _lines(folder / "autoj_ratings.jsonl")]
    found = [(form.search(record["usrmsg"]), float(record["pred_score"])) for record in records]
    read = [(at[1].strip(), at[2].strip(), rating) for at, rating in found if at]
    return _answers("Auto-J: GPT-4's rating of an answer (1 to 10)", read, len(records))


def prometheus_ratings(folder: Path) -> Labelled:
    """The mean of GPT-4's three ratings, 1 to 5, of an answer by a rubric that the model is not shown."""
    form = re.compile(
        r"###The instruction to evaluate:\n(.*?)\n\n###Response to evaluate:\n(.*?)\n\n###Reference Answer", re.DOTALL
    )
    records = json.loads((folder / "prometheus_ratings.json").read_text(encoding="utf-8"))
    found = [(form.search(record["instruction"]), float(np.mean(record["gpt4_score"]))) for record in records]
    read = [(at[1].strip(), at[2].strip(), rating) for at, rating in found if at]
    return _answers("Prometheus: mean of three ratings by GPT-4, a rubric a question (1 to 5)", read, len(records))


def _answers(title: str, read: Sequence[tuple[str, str, float]], records: int) -> Labelled:
    if len(read) < 0.95 * records:
        raise SystemExit(f"{title}: {records - len(read)} of {records} records could not be read")
    texts = [f"{prompt}\n{answer}" for prompt, answer, _ in read]
    return Labelled(title, texts, [answer for _, answer, _ in read], [p for p, *_ in read], [r for *_, r in read], [])


def flask_difficulty(folder: Path) -> Labelled:
    """The knowledge that an instruction asks for, five levels."""
    records = [r for r in _lines(folder / "flask_skills.jsonl") if r["difficulty"] in LEVELS]
    texts = [record["instruction"] for record in records]
    values = [float(1 + LEVELS.index(record["difficulty"])) for record in records]
    return Labelled("FLASK: difficulty of an instruction (five levels)", texts, texts, texts, values, [])


def flask_domains(folder: Path) -> Labelled:
    """The first domain of an instruction."""
    records = [r for r in _lines(folder / "flask_skills.jsonl") if isinstance(r["domain"][0], str)]
    texts = [record["instruction"] for record in records]
    labels = [record["domain"][0] for record in records]
    return Labelled("FLASK: first domain of an instruction", texts, texts, texts, [], labels)


def autoj_scenarios(folder: Path) -> Labelled:
    """The scenario of a request."""
    records = _lines(folder / "autoj_scenarios.jsonl")
    texts = ["\n".join(part for part in (r["instruction"], r["input"]) if part) for r in records]
    return Labelled("Auto-J: scenario of a request", texts, texts, texts, [], [r["category"] for r in records])


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


SETS: tuple[tuple[str, Callable[[Path], Labelled]], ...] = (
    ("autoj_ratings.jsonl", autoj_ratings),
    ("prometheus_ratings.json", prometheus_ratings),
    ("flask_skills.jsonl", flask_difficulty),
    ("flask_skills.jsonl", flask_domains),
    ("autoj_scenarios.jsonl", autoj_scenarios),
)


def drawn(these: Labelled, rows: int) -> Labelled:
    """At most so many rows, drawn by a seed."""
    some = np.sort(np.random.default_rng(SEED).permutation(len(these.texts))[:rows]).tolist()

    def of(values: list[Any]) -> list[Any]:
        return [values[i] for i in some] if values else []

    lists = (of(column) for column in (these.texts, these.measured, these.groups, these.values, these.labels))
    return Labelled(these.title, *lists)


# ---- measuring ------------------------------------------------------------------------------------------------------


def scores(these: Labelled, spaces: dict[str, np.ndarray]) -> list[str]:
    """Lines of the table of rank correlations."""
    characters, target = np.array([len(text) for text in these.measured]), np.array(these.values)
    kinds = [
        kind for kind in distillation.KINDS if kind == "ridge" or len(set(these.values)) <= distillation.MOST_STEPS
    ]
    lines = []
    for kind, (space, vectors) in product(kinds, spaces.items()):
        for with_length in (False, True):
            found = distillation.distil(vectors, characters, target, these.groups, kind, with_length, FOLDS, SEED)
            rho = {line["from"]: line for line in found.report.iter_rows(named=True)}
            ahead = "-" if found.ahead is None else "{:+.2f} ({:+.2f} to {:+.2f})".format(*found.ahead)
            cells = [
                these.title,
                f"{found.learned_from:,}",
                f"{kind}, {space}{' and length' if with_length else ''}",
                _with_interval(rho[found.features]),
                _with_interval(rho["length"]),
                ahead,
                "yes" if found.beats_length else "**no**",
                "yes" if found.usable(0.3) else "**no**",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _with_interval(line: dict[str, Any]) -> str:
    return "-" if line["spearman"] is None else f"{line['spearman']:.2f} ({line['low']:.2f} to {line['high']:.2f})"


def pairs(these: Labelled, vectors: np.ndarray) -> list[str]:
    """Lines of the table of raters: labels play the judge (the higher one is preferred, equal ones are a tie), and the
    rater is held against the labels of all rows that it was not trained on."""
    y, lines = np.array(these.values), []
    for rows in (50, 100, 200, 400):
        some = np.random.default_rng(SEED).permutation(len(y))[:rows]
        first, second = designed(len(some), NEIGHBOURS, SEED).T
        chance = 0.5 + 0.5 * np.sign(y[some][second] - y[some][first])
        lengths = np.array([len(these.measured[i]) for i in some.tolist()])
        found = qurating.train(vectors[some], first, second, chance, y[some], lengths, SEED)
        rest = np.setdiff1d(np.arange(len(y)), some)
        said = vectors[rest].astype(np.float64) @ found.weights
        unseen = distillation.rank_correlation(said, y[rest])
        interval = f"{found.accuracy:.0%} ({found.interval[0]:.0%} to {found.interval[1]:.0%})"
        held = _with_interval(found.report.filter(found.report["from"] == "embedding").row(0, named=True))
        cells = [f"{rows:,}", f"{len(first):,}", f"{found.trained_on:,}", interval, f"{found.longer:.0%}", held]
        lines.append(f"| {' | '.join(cells)} | {unseen:.2f} ({len(rest):,}) |")
    return lines


def labels(these: Labelled, vectors: np.ndarray) -> list[str]:
    """Lines of the table of labels: accuracy and macro-F1 of a logistic regression, and of what knows nothing."""
    from sklearn.metrics import f1_score

    y = np.array(these.labels)
    fold = distillation.folded(these.groups, FOLDS, SEED)
    length = np.log1p(np.array([[len(text)] for text in these.measured], dtype=np.float64))
    guesses = {
        "embedding": _classified(vectors.astype(np.float64), y, fold),
        "length alone": _classified(length, y, fold),
        "the most frequent label": np.array([Counter(y[fold != k].tolist()).most_common(1)[0][0] for k in fold]),
    }
    lines = []
    for name, said in guesses.items():
        accuracy, macro = float((said == y).mean()), float(f1_score(y, said, average="macro"))
        lines.append(f"| {these.title} | {len(y):,} | {len(set(y))} | {name} | {accuracy:.2f} | {macro:.2f} |")
    return lines


def _classified(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    said = np.empty(len(y), dtype=y.dtype)
    for k in np.unique(fold):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        said[fold == k] = model.fit(x[fold != k], y[fold != k]).predict(x[fold == k])
    return said


def embedded(encoder: Encoder, texts: list[str], kept: Path | None) -> np.ndarray:
    """Vectors of texts; read from ``kept`` where they are there."""
    if kept is not None and kept.is_file():
        return np.load(kept)
    vectors = np.empty((len(texts), encoder.dimension()), dtype=np.float32)
    for block in encoder.encode(texts):
        vectors[block.indices] = block.vectors
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, vectors)
    return vectors


HEAD_SCORES = """| label | rows | model | rank correlation (95 %) | length alone | ahead of the length | beats it | \
reaches .3 |
|---|---|---|---|---|---|---|---|"""
NEIGHBOURS = 8
HEAD_PAIRS = """| rows asked about | pairs | with a clear answer | right in unseen pairs | longer preferred | rank \
correlation, unseen rows asked about | ... rows not asked about |
|---|---|---|---|---|---|---|"""
HEAD_LABELS = "| label | rows | labels | from | accuracy | macro-F1 |\n|---|---|---|---|---|---|"


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--model", default="embedded:minilm")
    parser.add_argument("--keep", type=Path, help="folder that vectors are kept in between two runs")
    options = parser.parse_args()
    encoder = Encoder(model=options.model)
    ranked, named, rated, seconds = list[str](), list[str](), list[str](), 0.0
    for file, read in SETS:
        if not (options.data / file).is_file():
            print(f"left out: there is no {file}")
            continue
        these = drawn(read(options.data), options.rows)
        began = time.perf_counter()
        kept = options.keep / f"{read.__name__}-{options.rows}.npy" if options.keep else None
        spaces = {"one vector": embedded(encoder, these.texts, kept)}
        if these.measured != these.texts:  # an answer to a question
            both = (("questions", these.groups), ("answers", these.measured))
            parts = [embedded(encoder, t, kept and kept.with_stem(f"{kept.stem}-{name}")) for name, t in both]
            spaces["question and answer apart"] = np.hstack(parts)
        seconds += time.perf_counter() - began
        if these.values:
            ranked += scores(these, spaces)
            rated += pairs(these, spaces["one vector"]) if read is flask_difficulty else []
        else:
            named += labels(these, spaces["one vector"])
        print(f"{these.title}: done")
    page = OUT.read_text(encoding="utf-8") if OUT.exists() else "<!-- measured -->\n<!-- end -->\n"
    command = f"`python -m benchmarks.distilled --data FOLDER --rows {options.rows}`, {date.today().isoformat()}"
    said = "\n\n".join([f"Measured by {command}, {options.model}.", "\n".join([HEAD_SCORES, *ranked])])
    said += "\n\n" + "\n".join([HEAD_LABELS, *named]) + "\n\n" + "\n".join([HEAD_PAIRS, *rated])
    before, after = page.split("<!-- measured -->")[0], page.split("<!-- end -->")[1]
    OUT.write_text(f"{before}<!-- measured -->\n{said}\n<!-- end -->{after}", encoding="utf-8")
    print(f"embedding took {seconds:.0f} s\n\n{said}")


if __name__ == "__main__":
    main()
