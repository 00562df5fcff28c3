"""Writes the demo corpus: sound rows, planted defects, and the list of what was planted where.

Run ``python -m jobs.demo.make_corpus``. Everything follows from the hand-written texts in ``corpus/seeds`` and
``corpus/targets``, the computed questions of `numbers` and `words`, and one seed number, so that the
shipped files can be made again byte by byte (a test does). Here belongs how rows are drawn, mixed and written; how a
row is damaged stands in `defects`. What happens to the corpus afterwards is the business of the pipeline.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from jobs.demo.defects import Row, answered, jaccard, malformed, mismatched, near, salad, shingles, truncated
from jobs.demo.numbers import FAMILIES as NUMBER_FAMILIES
from jobs.demo.words import FAMILIES as WORD_FAMILIES

HERE = Path(__file__).resolve().parent / "corpus"
SEED = 20240805
FILES = {"handbook": "handbook.jsonl", "dialogues": "dialogues.json", "late_arrivals": "late_arrivals.jsonl"}
FAMILIES = NUMBER_FAMILIES + WORD_FAMILIES
TEMPLATED = {"handbook": 48, "dialogues": 30, "late_arrivals": 27}
"""How many computed rows join the hand-written ones of each source."""
LEAKED = ("mini-01", "mini-03", "mini-05", "mini-08", "mini-11", "mini-13", "mini-16", "mini-19")


@dataclass
class Corpus:
    """The rows of each source in file order."""

    rows: dict[str, list[Row]] = field(default_factory=dict)

    def manifest(self) -> list[dict[str, object]]:
        """One entry a planted row, in file order: where it stands, what is wrong with it, and whose twin it is."""
        where = {id(row): (row.source, at) for rows in self.rows.values() for at, row in enumerate(rows)}
        entries: list[dict[str, object]] = []
        for source, rows in self.rows.items():
            for position, row in enumerate(rows):
                if row.kind:
                    twin = where[id(row.twin)] if row.twin is not None else (None, None)
                    entry = {"source": source, "file": FILES[source], "position": position, "kind": row.kind}
                    entries.append(entry | {"note": row.note, "twin_source": twin[0], "twin_position": twin[1]})
        return entries


def read_seeds(path: Path, source: str) -> list[Row]:
    """Reads a seed file: entries ``@ topic [language]``, then turns that begin ``S: ``, ``U: ``, ``A: ``, ``I: ``."""
    roles = {"S": "system", "U": "user", "A": "assistant", "I": "input"}
    rows = []
    for entry in re.split(r"^@ ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, body = entry.split("\n", 1)
        topic, _, language = head.partition(" ")
        parts = re.split(r"^([SUAI]): ?", body, flags=re.MULTILINE)[1:]
        turns = [(roles[mark], text.strip()) for mark, text in zip(parts[::2], parts[1::2], strict=True)]
        given = next((text for role, text in turns if role == "input"), "")
        turns = [turn for turn in turns if turn[0] != "input"]
        rows.append(Row(source, tuple(turns), topic=topic, language=language or "en", input=given))
    return rows


def _templated(rng: Random, taken: Iterable[Row]) -> dict[str, list[Row]]:
    """Draws computed rows family by family and keeps those that resemble nothing drawn before."""
    known = [shingles(row.text) for row in taken]
    links = (
        "Thanks, that is clear. Next one: ",
        "Good. And another: ",
        "I see. One more please. ",
        "Great, now this. ",
        "That helps. Here is a different one: ",
    )
    rows: dict[str, list[Row]] = {source: [] for source in TEMPLATED}
    for source, wanted in TEMPLATED.items():
        turn = 0
        while len(rows[source]) < wanted:
            prompt, answer = FAMILIES[turn % len(FAMILIES)](rng)
            turns = [("user", prompt), ("assistant", answer)]
            if source == "dialogues":
                prompt, answer = FAMILIES[(turn * 5 + 3) % len(FAMILIES)](rng)
                turns += [("user", rng.choice(links) + prompt), ("assistant", answer)]
            turn += 1
            row = Row(source, tuple(turns), topic="computed")
            mine = shingles(row.text)
            if max((jaccard(mine, other) for other in known), default=0.0) < 0.4:
                rows[source].append(row)
                known.append(mine)
    return rows


def _plain(rows: list[Row]) -> list[Row]:
    """English rows of one question and one answer of some length, which can be damaged in any way."""
    return [
        row
        for row in rows
        if len(row.turns) == 2 and row.language == "en" and not row.input and len(row.response.split()) > 35
    ]


def _take(rng: Random, rows: list[Row], n: int) -> list[Row]:
    """Removes and returns n rows that can be damaged, all of different topics as far as there are enough."""
    pool = [row for row in _plain(rows) if row.topic not in ("computed", "code")]
    rng.shuffle(pool)
    by_topic: dict[str, list[Row]] = {}
    for row in pool:
        by_topic.setdefault(row.topic, []).append(row)
    chosen: list[Row] = []
    while len(chosen) < n:
        for topic in sorted(by_topic):
            if by_topic[topic] and len(chosen) < n:
                chosen.append(by_topic[topic].pop())
    for row in chosen:
        rows.remove(row)
    return chosen


def _planted(rng: Random, sound: dict[str, list[Row]]) -> list[Row]:
    """All planted rows. Rows that are damaged in themselves are taken out of ``sound``; duplicates are added to it."""
    planted = malformed()
    for source, n in (("handbook", 6), ("late_arrivals", 4)):
        planted += mismatched(_take(rng, sound[source], n))
    for source, n in (("handbook", 6), ("late_arrivals", 4)):
        planted += [truncated(rng, row) for row in _take(rng, sound[source], n)]
    words = sorted({w for row in sound["handbook"] for w in re.findall(r"\b[a-z]{3,9}\b", row.response)})
    sources = ("handbook", "late_arrivals", "dialogues")
    forms = ("shuffled words", "shuffled words", "random letters", "shuffled words", "repeated phrase")
    for i, seed in enumerate(read_seeds(HERE / "seeds" / "planted.txt", "handbook")):
        row = replace(seed, source=sources[i % 3], kind=seed.topic)
        if row.kind == "empty_response":
            planted.append(
                answered(row, ("", "   ", "\n")[i % 3], row.kind, "nothing but white space" if i % 3 else "empty")
            )
        elif row.kind == "word_salad":
            planted.append(salad(rng, row, words, forms[i % 5]))
        elif row.kind == "wrong_language":
            planted.append(replace(row, note=f"English question, answer in {row.language}"))
        else:
            planted.append(replace(row, note="boilerplate refusal of a harmless question"))
    exam = {item["id"]: item for item in map(json.loads, (HERE / "targets" / "mini_exam.jsonl").open(encoding="utf-8"))}
    for i, leaked in enumerate(LEAKED):
        item = exam[leaked]
        lead = ("", "Here is a question from my worksheet. ")[i % 2]
        turns = (("user", lead + item["question"]), ("assistant", item["answer"]))
        note = f"{leaked} of targets/mini_exam.jsonl, {'after a lead-in' if lead else 'verbatim'}"
        planted.append(Row(sources[i % 3], turns, kind="leaked_test_item", note=note))
    return planted + _duplicates(rng, sound)


def _duplicates(rng: Random, sound: dict[str, list[Row]]) -> list[Row]:
    """Exact and near copies of sound rows, within a source and from another source into the one that lands later."""
    exact = [("handbook", "handbook", 4), ("dialogues", "dialogues", 2)]
    exact += [("handbook", "late_arrivals", 4), ("dialogues", "late_arrivals", 2)]
    close = [("handbook", "handbook", 6), ("handbook", "late_arrivals", 4), ("late_arrivals", "late_arrivals", 2)]
    used: set[int] = set()
    planted: list[Row] = []
    for of, into, n in exact:
        pool = [row for row in sound[of] if not row.input and row.topic != "computed"]
        for twin in rng.sample(pool, n):
            used.add(id(twin))
            note = "same source" if of == into else f"from {of}, in another layout"
            planted.append(replace(twin, source=into, kind="exact_duplicate", note=note, twin=twin))
    for of, into, n in close:
        found = 0
        pool = [row for row in _plain(sound[of]) if id(row) not in used]
        rng.shuffle(pool)
        for twin in pool:
            copy = near(rng, twin, into) if found < n else None
            if copy is not None:
                used.add(id(twin))
                planted.append(copy)
                found += 1
    return planted


def build(seed: int = SEED) -> Corpus:
    """Makes the corpus in memory: the same seed, the same rows in the same order."""
    rng = Random(seed)
    sound = {source: read_seeds(HERE / "seeds" / f"{source}.txt", source) for source in FILES}
    for source, rows in _templated(rng, [row for seeds in sound.values() for row in seeds]).items():
        sound[source] += rows
    planted = _planted(rng, sound)
    corpus = Corpus()
    for source in FILES:
        rows = sound[source] + [row for row in planted if row.source == source]
        rng.shuffle(rows)
        for row in [row for row in rows if row.twin is not None and row.twin.source == source]:
            here, there = rows.index(row), rows.index(row.twin)  # type: ignore[arg-type]
            if here < there:
                rows[here], rows[there] = rows[there], rows[here]
        corpus.rows[source] = rows
    return corpus


def _record(row: Row, position: int) -> str:
    """The row as JSON text in the layout of its source."""
    if row.malformed:
        return row.malformed
    if row.source == "handbook":
        first = dict(row.turns)
        record: Mapping[str, object] = {"instruction": first["user"], "input": row.input, "output": first["assistant"]}
    elif row.source == "dialogues":
        names = {"system": "system", "user": "human", "assistant": "gpt"}
        turns = [{"from": names[role], "value": content} for role, content in row.turns]
        record = {"id": f"dlg-{position:03d}", "conversations": turns}
    else:
        asked = next(content for role, content in row.turns if role == "user")
        turns = [{"role": role, "content": row.prompt if content == asked else content} for role, content in row.turns]
        record = {"messages": turns}
    return json.dumps(record, ensure_ascii=False)


def files(corpus: Corpus) -> dict[str, str]:
    """File name -> content, for every file that is generated."""
    made = {}
    for source, name in FILES.items():
        records = [_record(row, at) for at, row in enumerate(corpus.rows[source])]
        made[name] = "[\n" + ",\n".join(records) + "\n]\n" if name.endswith(".json") else "\n".join(records) + "\n"
    made["planted.jsonl"] = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in corpus.manifest())
    return made


def main(folder: Path = HERE) -> None:
    """Writes the files and says what is in them."""
    corpus = build()
    for name, content in files(corpus).items():
        (folder / name).write_text(content, encoding="utf-8", newline="\n")
    for source, rows in corpus.rows.items():
        print(f"{source}: {len(rows)} records, {sum(bool(row.kind) for row in rows)} planted")


if __name__ == "__main__":
    main()
