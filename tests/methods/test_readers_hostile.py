"""Bad input: it is quarantined with its place and its reason, and never stops or swallows what is good."""

import gzip
import json
import tracemalloc

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.readers import Limits, read_file
from methods.rows import QUARANTINE_SCHEMA


def record(at, **more):
    return {"instruction": f"I{at}", "output": f"O{at}", **more}


def good(at):
    return json.dumps(record(at)).encode()


def read(path, **options):
    """Positions of the rows, and the quarantined records; the books must balance."""
    batches = list(read_file(path, "s", **options))
    rows = pl.concat([batch.rows for batch in batches])
    quarantined = pl.concat([batch.quarantined for batch in batches])
    assert sum(batch.records for batch in batches) == rows["position"].n_unique() + len(quarantined)
    assert all(detail.endswith((".", "limits.")) for detail in quarantined["detail"])
    assert quarantined["excerpt"].str.len_chars().max() is None or quarantined["excerpt"].str.len_chars().max() <= 200
    return rows, quarantined


def write(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return path


BAD = {
    "invalid_escape": rb'{"instruction": "a \d", "output": "b"}',
    "malformed_json": b'{"instruction": "a" b", "output": "b"}',
    "truncated": b'{"instruction": "a", "output": ',
    "extra_data": good(0) + good(1),
    "control_character": b'{"instruction": "a\tb", "output": "b"}',
    "nul_character": b"\0" * 700,
    "invalid_utf8": b'{"instruction": "\xff\xfe", "output": "b"}',
    "lone_surrogate": rb'{"instruction": "\ud83d", "output": "b"}',
    "duplicate_key": b'{"instruction": "a", "instruction": "c", "output": "b"}',
    "not_a_number": b'{"instruction": "a", "output": "b", "score": NaN}',
    "too_deep": b'{"a":' * 100_000,
    "not_an_object": b"[1]",
    "wrong_type": b'{"instruction": 5, "output": "b"}',
    "unknown_layout": b'{"a": [[[]]]}',
    "too_large": b'{"instruction": "' + b"x" * 2_000_000 + b'", "output": "b"}',
}
LIMITS = Limits(max_record_bytes=1_000_000)


@pytest.mark.parametrize("reason", BAD)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_bad_line_is_quarantined_alone(tmp_path, reason, place):
    lines = [good(at) for at in range(4)]
    lines.insert(place, BAD[reason])
    rows, quarantined = read(write(tmp_path, "a.jsonl", b"\n".join(lines)), limits=LIMITS)
    assert quarantined.select("position", "line", "reason").rows() == [(place, place + 1, reason)]
    assert rows["position"].to_list() == [at for at in range(5) if at != place]
    assert rows["line"].to_list() == [at + 1 for at in range(5) if at != place]


ENCLOSED = [reason for reason in BAD if reason not in ("truncated", "extra_data", "nul_character", "too_deep")]


@pytest.mark.parametrize("reason", ENCLOSED)
@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("between", [b",", b",\n  "])
@pytest.mark.parametrize("around", [(b"[", b"]"), (b'{"data": [\n', b'], "x": 1}')])
def test_a_bad_element_is_quarantined_alone(tmp_path, reason, place, between, around):
    elements = [good(at) for at in range(4)]
    elements.insert(place, BAD[reason])
    if reason == "not_an_object":
        around = (b"[", b"]")  # a wrapped list is known by the object that it begins with
    data = around[0] + between.join(elements) + around[1]
    rows, quarantined = read(write(tmp_path, "a.json", data), limits=LIMITS)
    assert quarantined.select("position", "reason").rows() == [(place, reason)]
    assert rows["position"].to_list() == [at for at in range(5) if at != place]
    assert quarantined["excerpt"][0].startswith(BAD[reason][:20].decode(errors="replace"))


@pytest.mark.parametrize("size", [10, 200_000, 3_000_000])
def test_a_lost_quote_in_a_list_takes_one_element_however_long_the_rest_is(tmp_path, size):
    broken = b'{"instruction": "a, "output": "b"}'
    long = json.dumps(record(1, note="x" * size)).encode()
    data = b"[" + b", ".join([good(0), broken, long, good(2), broken, good(3), good(4)]) + b"]"
    rows, quarantined = read(write(tmp_path, "a.json", data), limits=Limits(max_record_bytes=4_000_000))
    assert rows["instruction"].to_list() == ["I0", "I1", "I2", "I3", "I4"]
    assert quarantined["position"].to_list() == [1, 4]


def test_a_nested_element_that_repeats_its_first_key_is_one_record(tmp_path):
    inner = [{"instruction": f"x{at}", "y": "z" * 5000} for at in range(60)]
    data = json.dumps([record(0, inner=inner), record(1, inner=inner)]).encode()
    rows, quarantined = read(write(tmp_path, "a.json", data))
    assert (len(rows), len(quarantined)) == (2, 0)


def test_values_that_are_no_objects_are_each_a_record(tmp_path):
    data = b'[1, "a, b]", null, [1, [2]], {"instruction": "I", "output": "O"}, -1.5e3]'
    rows, quarantined = read(write(tmp_path, "a.json", data))
    assert rows["position"].to_list() == [4]
    assert quarantined.select("position", "reason").rows() == [(at, "not_an_object") for at in (0, 1, 2, 3, 5)]


def test_garbage_between_elements_is_said(tmp_path):
    data = b"[" + good(0) + b"} oops, " + good(1) + b"] tail"
    rows, quarantined = read(write(tmp_path, "a.json", data))
    assert rows["instruction"].to_list() == ["I0", "I1"]
    assert quarantined["excerpt"].to_list() == ["} oops, ", "tail"]


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (b"[" + good(0) + b", " + good(1)[:-5], ["truncated"]),
        (b"[" + good(0) + b",", ["truncated"]),
        (b'{"data": [' + good(0), ["truncated"]),
        (b'{"data": [' + good(0) + b'], "x": ', ["truncated"]),
        (b'{"data": [' + good(0) + b'], "more": [' + good(1) + b"]}", ["second_list"]),
    ],
)
def test_a_list_cut_off_is_said(tmp_path, data, reasons):
    rows, quarantined = read(write(tmp_path, "a.json", data))
    assert rows["instruction"].to_list() == ["I0"]
    assert [reason.replace("malformed_json", "truncated") for reason in quarantined["reason"]] == reasons


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("data", [b"", b" \n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_said(tmp_path, name, data):
    rows, quarantined = read(write(tmp_path, name, data))
    assert rows.is_empty()
    assert quarantined["reason"].to_list() == ["empty_file"]


def test_an_empty_list_and_a_lone_header_are_empty_files(tmp_path):
    for name, data in (("a.json", b"[]"), ("a.csv", b"prompt,response\n")):
        assert read(write(tmp_path, name, data))[1]["reason"].to_list() == ["empty_file"]


def test_a_nul_in_a_text_is_quarantined(tmp_path):
    data = good(0) + b'\n{"instruction": "a\\u0000b", "output": "O"}\n{"instruction": "a\\\\u0000b", "output": "O"}'
    rows, quarantined = read(write(tmp_path, "a.jsonl", data))
    assert quarantined["reason"].to_list() == ["nul_character"]
    assert rows["instruction"].to_list() == ["I0", "a\\u0000b"]


def test_a_whole_surrogate_pair_is_a_character(tmp_path):
    rows, _ = read(write(tmp_path, "a.jsonl", rb'{"instruction": "\ud83d\ude00", "output": "O"}'))
    assert rows["instruction"].to_list() == ["\U0001f600"]


def test_undesirable_and_promptless_records_are_counted(tmp_path):
    talk = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    data = json.dumps([{"messages": talk, "label": label} for label in (True, False)]).encode()
    assert read(write(tmp_path, "a.json", data))[1]["reason"].to_list() == ["undesirable"]


def test_what_is_quarantined_names_source_file_and_place(tmp_path):
    path = write(tmp_path, "a.jsonl", good(0) + b"\n\n{oops\n")
    _, quarantined = read(path)
    assert quarantined.schema == QUARANTINE_SCHEMA
    entry = quarantined.row(0, named=True)
    assert (entry["source"], entry["file"], entry["position"], entry["line"]) == ("s", str(path), 1, 3)
    assert entry["excerpt"] == "{oops"


@pytest.mark.parametrize("form", ["lines", "list"])
def test_a_huge_record_is_not_held(tmp_path, form):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(b"[" if form == "list" else b"")
        file.write(good(0) + (b"," if form == "list" else b"\n") + b'{"instruction": "')
        for _ in range(40):
            file.write(b'\\" }, x' * (1 << 17))
        file.write(b'", "output": "b"}' + (b"," if form == "list" else b"\n") + good(1))
        file.write(b"]" if form == "list" else b"")
    tracemalloc.start()
    try:
        rows, quarantined = read(path, limits=Limits(max_record_bytes=1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows["instruction"].to_list() == ["I0", "I1"]
    assert quarantined["reason"].to_list() == ["too_large"]
    assert peak < 16 << 20


# --- archives ---------------------------------------------------------------------------------------------------------


def many(count):
    return b"\n".join(json.dumps(record(at, x=hash(at * 7919))).encode() for at in range(count))


def test_a_truncated_archive_keeps_what_came_before(tmp_path):
    packed = gzip.compress(many(5000))
    rows, quarantined = read(write(tmp_path, "a.jsonl.gz", packed[: len(packed) // 2]))
    assert rows["position"].to_list() == list(range(len(rows)))
    assert len(rows) > 1000
    assert quarantined["reason"].to_list()[-1] == "truncated_archive"
    assert len(quarantined) <= 2


def test_an_archive_with_a_wrong_checksum_is_read_and_said(tmp_path):
    packed = bytearray(gzip.compress(many(50)))
    packed[-8] ^= 0xFF
    rows, quarantined = read(write(tmp_path, "a.jsonl.gz", bytes(packed)))
    assert (len(rows), quarantined["reason"].to_list()) == (50, ["damaged_archive"])


def test_an_archive_with_a_broken_middle_keeps_what_came_before(tmp_path):
    packed = bytearray(gzip.compress(many(20_000)))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    rows, quarantined = read(write(tmp_path, "a.jsonl.gz", bytes(packed)))
    assert len(rows) > 1000
    assert quarantined["reason"].to_list()[-1] in ("damaged_archive", "truncated_archive")


def test_a_bomb_is_read_no_further_than_the_limits(tmp_path):
    bomb = gzip.compress(good(0) + b"\n" + b" " * (8 << 20))
    path = write(tmp_path, "a.jsonl.gz", bomb)
    rows, quarantined = read(path, limits=Limits(free_expanded_bytes=1 << 20))
    assert (len(rows), quarantined["reason"].to_list()) == (1, ["archive_bomb"])
    rows, quarantined = read(path, limits=Limits(max_expanded_bytes=3 << 20))
    assert (len(rows), quarantined["reason"].to_list()) == (1, ["archive_bomb"])
    assert read(path)[1].is_empty()


# --- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a,b,c", "wrong_columns"),
        (b"a", "wrong_columns"),
        (b'"a"x,b', "malformed_csv"),
        (b'"a,b', "malformed_csv"),
        (b"\xff,b", "invalid_utf8"),
        (b"x" * 2_000_000 + b",b", "too_large"),
        (b"a\0,b", "nul_character"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_csv_line_is_quarantined_alone(tmp_path, line, reason, place):
    lines = [b'P0,"R\n0"', b"P1,R1"]
    lines.insert(place, line)
    path = write(tmp_path, "a.csv", b"prompt,response\n" + b"\n".join(lines))
    rows, quarantined = read(path, limits=LIMITS)
    assert rows["instruction"].to_list() == ["P0", "P1"]
    assert quarantined.select("position", "reason").rows() == [(place, reason)]
    assert quarantined["line"][0] == (place + 2 if place == 0 else place + 3)


def test_a_stray_quote_in_csv_is_text(tmp_path):
    rows, quarantined = read(write(tmp_path, "a.csv", b'prompt,response\n5" pipe,R\nP,R\n'))
    assert rows["instruction"].to_list() == ['5" pipe', "P"]
    assert quarantined.is_empty()


def test_a_csv_header_with_a_name_twice(tmp_path):
    _, quarantined = read(write(tmp_path, "a.csv", b"prompt,response,prompt\na,b,c\n"))
    assert quarantined["reason"].to_list() == ["duplicate_key"]


# --- anything ---------------------------------------------------------------------------------------------------------

garbage = st.one_of(
    st.sampled_from(sorted(BAD.values(), key=len)[:12]),
    st.binary(min_size=1, max_size=30).map(lambda data: b"#" + data.replace(b"\n", b"")),
    st.binary(max_size=20).map(lambda data: b'{"a": [{"' + data.replace(b"\n", b"")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | garbage, max_size=12), st.sampled_from(["a.jsonl", "a.jsonl.gz", "a.json"]))
def test_corrupt_lines_anywhere_lose_no_good_line(tmp_path_factory, pattern, name):
    pattern = [None, *pattern, None]
    lines = [good(at) if line is None else line for at, line in enumerate(pattern)]
    data = b"\n".join(lines)
    path = write(tmp_path_factory.mktemp("lines"), name, gzip.compress(data) if name.endswith("gz") else data)
    rows, quarantined = read(path, limits=Limits(batch_rows=3))
    assert rows["instruction"].to_list() == [f"I{at}" for at, line in enumerate(pattern) if line is None]
    assert quarantined["line"].to_list() == [at + 1 for at, line in enumerate(pattern) if line is not None]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["a.json", "a.jsonl", "a.csv", "a.json.gz"]), st.integers(0, 80))
def test_any_bytes_are_read_to_the_end(tmp_path_factory, data, name, cut):
    base = json.dumps([record(0), record(1)]).encode()
    path = write(tmp_path_factory.mktemp("any"), name, base[:cut] + data + base[cut:])
    if data[:2] in (b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff") or data[:4] == b"PAR1":
        return
    read(path, limits=Limits(max_record_bytes=60, batch_rows=2))
