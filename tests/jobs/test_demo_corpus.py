"""The demo corpus: current, accounted for, and sound where it claims to be."""

from __future__ import annotations

import json
import re
from calendar import day_name, weekday
from collections import Counter
from itertools import combinations
from math import gcd, prod
from time import strptime

import pytest

from jobs.demo import make_corpus as demo
from jobs.demo.defects import KINDS, Row, jaccard, shingles
from jobs.demo.numbers import clock, dates, number_bases, primes
from jobs.demo.words import caesar

CORPUS = demo.build()
SOUND = [row for rows in CORPUS.rows.values() for row in rows if not row.kind]
PLANTED = CORPUS.manifest()


def _row(entry: dict[str, object], prefix: str = "") -> Row:
    return CORPUS.rows[entry[f"{prefix}source"]][entry[f"{prefix}position"]]  # type: ignore[index]


def _of(kind: str) -> list[Row]:
    return [_row(entry) for entry in PLANTED if entry["kind"] == kind]


def _shipped(source: str) -> list[str]:
    """The records of a shipped file as they stand there, one text each."""
    text = (demo.HERE / demo.FILES[source]).read_text(encoding="utf-8")
    lines = text.splitlines()
    return [line.rstrip(",") for line in lines[1:-1]] if demo.FILES[source].endswith(".json") else lines


@pytest.mark.parametrize("name", [*demo.FILES.values(), "planted.jsonl"])
def test_the_shipped_files_are_what_the_generator_makes(name: str) -> None:
    shipped = (demo.HERE / name).read_bytes().decode()
    assert shipped == demo.files(demo.build())[name], "run: python -m jobs.demo.make_corpus"


def test_another_seed_makes_another_corpus() -> None:
    assert demo.files(demo.build(seed=1))["handbook.jsonl"] != demo.files(CORPUS)["handbook.jsonl"]


def test_every_source_has_the_size_that_the_readme_tells() -> None:
    readme = (demo.HERE / "README.md").read_text(encoding="utf-8")
    for source, rows in CORPUS.rows.items():
        planted = sum(bool(row.kind) for row in rows)
        assert f"| {len(rows)} | {len(rows) - planted} | {planted} |" in readme, source
        assert len(_shipped(source)) == len(rows)
    for kind, n in Counter(entry["kind"] for entry in PLANTED).items():
        assert re.search(rf"\| `{kind}` \| {n} \|", readme), kind


def test_every_kind_is_planted_often_enough_and_nothing_else_is() -> None:
    counts = Counter(entry["kind"] for entry in PLANTED)
    assert set(counts) == set(KINDS)
    assert all(8 <= n <= 15 for kind, n in counts.items() if kind != "malformed")
    assert counts["malformed"] == 3
    assert {row.source for row in _of("malformed")} == set(demo.FILES)


def test_sound_rows_are_whole() -> None:
    for row in SOUND:
        assert row.prompt.strip() and row.response.strip(), row.prompt
        assert row.turns[-1][0] == "assistant"
        assert _ends(row.response), row.response[-40:]
        spoken = [role for role, _ in row.turns if role != "system"]
        assert spoken == ["user", "assistant"] * (len(spoken) // 2)


def _ends(answer: str) -> bool:
    """Whether an answer is finished: by a mark, a code block, a table, or a letter's signature."""
    signed = re.search(r"(,|Yours \w+,)\n\w+( \w+)?$", answer)
    return answer.rstrip()[-1] in '.!?。！？)"”“`|' or signed is not None


def test_sound_rows_are_no_near_duplicates_of_each_other() -> None:
    grams = [shingles(row.text) for row in SOUND]
    closest = max(combinations(range(len(grams)), 2), key=lambda ij: jaccard(grams[ij[0]], grams[ij[1]]))
    assert jaccard(grams[closest[0]], grams[closest[1]]) < 0.6, [SOUND[i].text for i in closest]


def test_enough_sound_rows_are_written_by_hand() -> None:
    assert sum(row.topic != "computed" for row in SOUND) >= 150
    assert {row.language for row in SOUND} == {"en", "de", "es", "fr", "zh"}


def test_no_sound_row_touches_the_exam() -> None:
    exam = [json.loads(line) for line in (demo.HERE / "targets" / "mini_exam.jsonl").open(encoding="utf-8")]
    assert len(exam) == len({item["id"] for item in exam}) == 20
    asked = frozenset().union(*(shingles(item["question"], 8) for item in exam))
    assert not [row.prompt for row in SOUND if shingles(row.text, 8) & asked]
    leaked = [
        item["question"] for item in exam if any(item["question"] in row.prompt for row in _of("leaked_test_item"))
    ]
    assert len(leaked) == len(demo.LEAKED) == 8


def test_exact_duplicates_repeat_a_sound_row_that_stands_before_them() -> None:
    entries = [entry for entry in PLANTED if entry["kind"] == "exact_duplicate"]
    for entry in entries:
        row, twin = _row(entry), _row(entry, "twin_")
        assert row.turns == twin.turns and not twin.kind
    _stand_after(entries)
    assert {entry["source"] == entry["twin_source"] for entry in entries} == {True, False}


def test_near_duplicates_are_near_but_not_equal() -> None:
    entries = [entry for entry in PLANTED if entry["kind"] == "near_duplicate"]
    for entry in entries:
        row, twin = _row(entry), _row(entry, "twin_")
        assert not twin.kind
        assert 0.75 <= jaccard(shingles(row.text), shingles(twin.text)) < 1
    _stand_after(entries)


def _stand_after(entries: list[dict[str, object]]) -> None:
    order = list(demo.FILES)
    for entry in entries:
        here = (order.index(str(entry["source"])), entry["position"])
        assert here > (order.index(str(entry["twin_source"])), entry["twin_position"])


def test_only_duplicates_have_a_twin() -> None:
    for entry in PLANTED:
        assert (entry["twin_position"] is not None) == entry["kind"].endswith("_duplicate")  # type: ignore[attr-defined]


def test_damaged_rows_are_damaged_in_one_way_and_copy_no_sound_row() -> None:
    sound = {row.prompt for row in SOUND}
    for entry in PLANTED:
        if entry["twin_source"] is None and entry["kind"] != "malformed":
            assert _row(entry).prompt not in sound
    assert all(not row.response.strip() for row in _of("empty_response"))
    assert all(row.response.rstrip()[-1] not in ".!?" for row in _of("truncated_response"))
    assert all(row.language != "en" and row.prompt.isascii() for row in _of("wrong_language"))
    answers = Counter(row.response for row in _of("mismatched_answer"))
    assert max(answers.values()) == 1 and not set(answers) & {row.response for row in SOUND}


def test_malformed_records_cannot_be_read_and_all_others_can() -> None:
    for source, rows in CORPUS.rows.items():
        for record, row in zip(_shipped(source), rows, strict=True):
            assert _readable(source, record) == (row.kind != "malformed"), record


def _readable(source: str, record: str) -> bool:
    try:
        value = json.loads(record)
    except json.JSONDecodeError:
        return False
    turns = value.get("conversations", value.get("messages", [value]))
    texts = [turn.get("value", turn.get("content", turn.get("output"))) for turn in turns]
    return all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize("family", demo.FAMILIES, ids=lambda family: family.__name__)
def test_computed_questions_have_an_answer_in_all_their_wordings(family) -> None:  # type: ignore[no-untyped-def]
    rng = demo.Random(5)
    pairs = [family(rng) for _ in range(60)]
    assert len({prompt for prompt, _ in pairs}) > 15
    assert all(len(answer.split()) >= 4 for _, answer in pairs)
    assert not any(re.search(r"\b1 (hours|minutes|times|places)\b", answer) for _, answer in pairs)


def test_computed_answers_agree_with_another_route() -> None:
    """Each family is asked often, and its answer is worked out again here in another way."""
    rng, checked = demo.Random(11), Counter()
    for prompt, answer in (family(rng) for family in (primes, number_bases, caesar, clock, dates) for _ in range(60)):
        if match := re.fullmatch(r"Reduce the fraction (\d+)/(\d+) as far as possible\.", prompt):
            a, b = map(int, match.groups())
            parts = [a // gcd(a, b), b // gcd(a, b)]
            assert ("/".join(map(str, parts)) if parts[1] > 1 else str(parts[0])) in answer
        elif match := re.fullmatch(r"What is 0x([0-9A-F]+) in everyday notation\?", prompt):
            value = 0
            for digit in match[1]:
                value = value * 16 + "0123456789ABCDEF".index(digit)
            assert answer.endswith(f"stands for {value}.")
        elif match := re.fullmatch(r"How is the decimal number (\d+) written in binary\?", prompt):
            assert int(answer.split()[-1].rstrip("."), 2) == int(match[1])
        elif match := re.fullmatch(r"Split (\d+) into prime factors\.", prompt):
            factors = (
                list(map(int, answer.split(" = ")[1].split(",")[0].split(" · ")))
                if " = " in answer
                else [int(match[1])]
            )
            assert prod(factors) == int(match[1])
            assert not [f for f in factors for d in range(2, f) if f % d == 0]
        elif match := re.fullmatch(r'This text was shifted by (\d+) letters: "(.*)"\. Decode it\.', prompt):
            plain = answer.split('"')[1]
            assert {(ord(s) - ord(p)) % 26 for s, p in zip(match[2], plain, strict=True) if s != " "} == {int(match[1])}
        elif match := re.match(r"On which weekday did or will (\d+ \w+ \d+) fall", prompt):
            year, month, day = strptime(match[1], "%d %B %Y")[:3]
            assert answer.endswith(f" is a {day_name[weekday(year, month, day)]}.")
        elif match := re.match(r"My shift runs from (\d+):(\d+) to (\d+):(\d+) ", prompt):
            h0, m0, h1, m1 = map(int, match.groups())
            assert f"or {((h1 - h0) * 60 + m1 - m0) % 1440} minutes in total" in answer
        else:
            continue
        checked[prompt.split()[0]] += 1
    assert len(checked) == 7 and min(checked.values()) >= 5, checked


def test_seed_files_are_read_with_their_turns(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "seeds.txt"
    path.write_text("@ t de\nS: be kind\nU: Wie\nviel?\nI: 3\nA: Drei.\n\n@ u\nU: a\nA: \n", encoding="utf-8")
    first, second = demo.read_seeds(path, "handbook")
    assert first.turns == (("system", "be kind"), ("user", "Wie\nviel?"), ("assistant", "Drei."))
    assert (first.language, first.prompt, second.language, second.response) == ("de", "Wie\nviel?\n3", "en", "")
