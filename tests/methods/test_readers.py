"""Good files of every kind: what they really are, where their records stand, and how much memory they take."""

import csv
import gzip
import io
import json
import tracemalloc

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.readers import Limits, SourceError, content_hash, read_file
from methods.rows import QUARANTINE_SCHEMA, ROW_SCHEMA

RECORDS = [{"instruction": f"I{at}", "input": "", "output": f"O{at}"} for at in range(7)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


def read(path, **options):
    """All rows and everything quarantined; the books must balance."""
    batches = list(read_file(path, "s", **options))
    assert batches, "at least one batch"
    rows = pl.concat([batch.rows for batch in batches])
    quarantined = pl.concat([batch.quarantined for batch in batches])
    assert rows.schema == ROW_SCHEMA
    assert quarantined.schema == QUARANTINE_SCHEMA
    good, bad = set(rows["position"]), quarantined["position"].to_list()
    assert sum(batch.records for batch in batches) == len(good) + len(bad)
    assert good.isdisjoint(bad)
    assert batches[-1].bytes_read == batches[-1].bytes_total == path.stat().st_size
    return rows, quarantined


def write(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def expect_all(path, **options):
    rows, quarantined = read(path, **options)
    assert quarantined.is_empty(), quarantined.to_dicts()
    assert rows["response"].to_list() == [record["output"] for record in RECORDS]
    assert rows["position"].to_list() == list(range(len(RECORDS)))
    assert [json.loads(text) for text in rows["record"]] == RECORDS
    return rows


WRITTEN = {
    "lines": LINES,
    "lines without the last newline": LINES.rstrip("\n"),
    "lines of Windows, with a mark": "\ufeff" + LINES.replace("\n", "\r\n"),
    "blank lines between": LINES.replace("\n", "\n \n\n"),
    "list": json.dumps(RECORDS),
    "list, indented": json.dumps(RECORDS, indent=2),
    "list, with a mark": "\ufeff" + json.dumps(RECORDS),
    "list, an element a line": "[\n" + LINES.rstrip("\n").replace("\n", ",\n") + "\n]\n",
    "list, commas first": "[" + LINES.rstrip("\n").replace("\n", "\n,") + "]",
    "objects one after another": "".join(map(json.dumps, RECORDS)),
    "objects, indented": "\n".join(json.dumps(record, indent=1) for record in RECORDS),
    "wrapped": json.dumps({"version": [1, {"a": "]"}], "data": RECORDS, "note": "end"}),
    "wrapped, indented": json.dumps({"canary": 'x"\\', "examples": RECORDS}, indent=2),
}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson", "a.csv", "a.parquet", "A.JSON", "a.json.gz"])
@pytest.mark.parametrize("written", WRITTEN)
def test_the_content_decides_how_json_is_read(tmp_path, name, written):
    expect_all(write(tmp_path, name, WRITTEN[written]))


@pytest.mark.parametrize("written", WRITTEN)
def test_gzip_is_known_by_its_content(tmp_path, written):
    packed = gzip.compress(WRITTEN[written].encode())
    expect_all(write(tmp_path, "a.jsonl.gz", packed))
    expect_all(write(tmp_path, "b.json", packed))


def test_gzip_in_several_members(tmp_path):
    half = len(LINES) // 2
    data = gzip.compress(LINES[:half].encode()) + gzip.compress(LINES[half:].encode())
    expect_all(write(tmp_path, "a.jsonl.gz", data))


TALK = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]


@pytest.mark.parametrize("record", [RECORDS[0], {"messages": TALK}, {"tools": [{}], "messages": TALK}])
@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_is_one_record(tmp_path, record, indent):
    rows, _ = read(write(tmp_path, "a.json", json.dumps(record, indent=indent)))
    assert len(rows) == 1


def test_lines_are_counted_in_every_layout_of_the_file(tmp_path):
    spaced = LINES.replace("\n", "\n\n")
    assert expect_all(write(tmp_path, "a.jsonl", spaced))["line"].to_list() == [1, 3, 5, 7, 9, 11, 13]
    indented = json.dumps(RECORDS, indent=2)
    assert expect_all(write(tmp_path, "a.json", indented))["line"].to_list() == [2, 7, 12, 17, 22, 27, 32]
    assert expect_all(write(tmp_path, "b.json", json.dumps(RECORDS)))["line"].to_list() == [1] * 7


def test_small_batches_hold_the_same_rows(tmp_path):
    path = write(tmp_path, "a.jsonl", LINES)
    expect_all(path, limits=Limits(batch_rows=2))
    expect_all(path, limits=Limits(batch_bytes=1))
    assert [batch.records for batch in read_file(path, "s", limits=Limits(batch_rows=3))] == [3, 3, 1]


def test_layouts_may_be_mixed_in_one_file(tmp_path):
    mixed = [RECORDS[0], {"conversations": ["Q", "A"]}, {"prompt": "P", "response": "R"}, {"x": 1}, {"question": "Q"}]
    rows, quarantined = read(write(tmp_path, "a.json", json.dumps(mixed)))
    assert rows["layout"].to_list() == ["alpaca", "sharegpt", "prompt_response"]
    assert quarantined["reason"].to_list() == ["unknown_layout", "no_response"]


def test_a_record_with_several_conversations_gives_parts(tmp_path):
    seed = {"instruction": "I", "instances": [{"input": "", "output": "O"}, {"input": "N", "output": "P"}]}
    rows, _ = read(write(tmp_path, "a.jsonl", json.dumps(seed)))
    assert rows.select("position", "part", "input").rows() == [(0, 0, ""), (0, 1, "N")]


def test_the_same_row_has_the_same_id_in_every_file(tmp_path):
    talk = {"messages": [{"role": "user", "content": "I\nN"}, {"role": "assistant", "content": "O"}]}
    alpaca = {"instruction": "I", "input": "N", "output": "O"}
    one, _ = read(write(tmp_path, "a.jsonl", json.dumps(talk)))
    other, _ = read(write(tmp_path, "b.json", json.dumps([alpaca], indent=1)))
    assert one["row_id"].to_list() == other["row_id"].to_list()


# --- CSV --------------------------------------------------------------------------------------------------------------


def as_csv(records, **dialect):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), **dialect)
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


@pytest.mark.parametrize("dialect", [{}, {"quoting": csv.QUOTE_ALL}, {"delimiter": ";"}, {"lineterminator": "\n"}])
def test_csv(tmp_path, dialect):
    expect_all(write(tmp_path, "a.csv", as_csv(RECORDS, **dialect)))
    expect_all(write(tmp_path, "b.csv", "\ufeff" + as_csv(RECORDS, **dialect)))


def test_csv_with_newlines_and_quotes_in_its_fields(tmp_path):
    records = [{"prompt": 'say "x",\n\ny', "response": "a\nb"}, {"prompt": "P", "response": ""}]
    rows, _ = read(write(tmp_path, "a.csv", as_csv(records)))
    assert rows.select("instruction", "response").rows() == [('say "x",\n\ny', "a\nb"), ("P", "")]
    assert rows["line"].to_list() == [2, 6]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_csv_round_trip(tmp_path_factory, pairs):
    records = [{"prompt": prompt, "response": response} for prompt, response in pairs]
    path = write(tmp_path_factory.mktemp("csv"), "a.csv", as_csv(records, quoting=csv.QUOTE_ALL))
    rows, quarantined = read(path)
    assert rows.select("instruction", "response").rows() == pairs
    assert quarantined.is_empty()


def test_csv_cells_may_hold_messages_as_json(tmp_path):
    rows, _ = read(write(tmp_path, "a.csv", as_csv([{"id": "1", "messages": json.dumps(TALK)}])))
    assert (rows["layout"][0], rows["response"][0]) == ("messages", "A")


# --- Parquet ----------------------------------------------------------------------------------------------------------


def test_parquet(tmp_path):
    pl.DataFrame(RECORDS).write_parquet(tmp_path / "a.parquet", row_group_size=3)
    assert expect_all(tmp_path / "a.parquet")["line"].null_count() == 7
    (tmp_path / "a.parquet").rename(tmp_path / "b.json")
    expect_all(tmp_path / "b.json")


def test_parquet_of_nested_messages_and_odd_types(tmp_path):
    talk = [{**message, "tool_calls": None} for message in TALK]
    frame = pl.DataFrame({"messages": [talk], "score": [float("nan")], "raw": [b"\xff"]})
    frame = frame.with_columns(day=pl.date(2024, 1, 2), price=pl.lit("1.5").str.to_decimal(scale=1))
    frame.write_parquet(tmp_path / "a.parquet")
    rows, _ = read(tmp_path / "a.parquet")
    assert (rows["layout"][0], rows["response"][0]) == ("messages", "A")
    record = json.loads(rows["record"][0])
    assert [record[key] for key in ("score", "raw", "day", "price")] == [None, "\\xff", "2024-01-02", "1.5"]


def test_parquet_with_text_that_is_no_utf8(tmp_path):
    ends = pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0")
    broken = pa.Array.from_buffers(pa.string(), 2, [None, ends, pa.py_buffer(b"a\xff")])
    pq.write_table(pa.table({"prompt": ["P", "Q"], "response": broken}), tmp_path / "a.parquet")
    rows, quarantined = read(tmp_path / "a.parquet")
    assert rows["response"].to_list() == ["a"]
    assert quarantined.select("position", "reason").rows() == [(1, "invalid_utf8")]


def test_a_damaged_row_group_does_not_stop_the_others(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame(RECORDS).write_parquet(path, row_group_size=3, compression="uncompressed")
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 12] = b"\xff" * 12
    path.write_bytes(data)
    batches = list(read_file(path, "s"))
    rows, quarantined = batches[0].rows, batches[0].quarantined
    assert rows["position"].to_list() == [0, 1, 2, 6]
    assert quarantined.select("position", "reason").rows() == [(3, "damaged_rows")]
    assert quarantined["detail"][0].startswith("3 rows of row group 1")


# --- files as a whole -------------------------------------------------------------------------------------------------


def test_content_hash(tmp_path):
    one, other = write(tmp_path, "a", b"x" * 3_000_000), write(tmp_path, "b", b"x" * 3_000_000 + b"y")
    assert content_hash(one) == content_hash(one) != content_hash(other)
    assert content_hash(write(tmp_path, "c", b"")) == "cae66941d9efbd404e4d88758ea67670"


@pytest.mark.parametrize("name", ["missing.json", "a.txt", "noextension", "folder.json", "data.gz"])
def test_what_cannot_be_read_at_all_is_an_error_with_the_file(tmp_path, name):
    (tmp_path / "folder.json").mkdir()
    for exists in ("a.txt", "noextension", "data.gz"):
        write(tmp_path, exists, LINES)
    with pytest.raises(SourceError, match=name):
        read_file(tmp_path / name, "s")


@pytest.mark.parametrize("data", [b"PAR1 and nothing", b"no parquet", "x".encode("utf-16")])
def test_a_file_that_is_not_what_it_says(tmp_path, data):
    with pytest.raises(SourceError, match=r"a\.parquet"):
        read_file(write(tmp_path, "a.parquet", data), "s")


def test_an_unknown_layout_is_an_error_at_once(tmp_path):
    with pytest.raises(ValueError, match="choose one of"):
        read_file(write(tmp_path, "a.jsonl", LINES), "s", layout="nonsense")


@pytest.mark.parametrize("form", ["lines", "list", "wrapped", "csv"])
def test_memory_is_bounded_by_the_batch_not_the_file(tmp_path, form):
    record = json.dumps({"instruction": "x" * 300, "output": "é\n" * 350})  # 2,800 bytes as escapes
    path = tmp_path / ("a.csv" if form == "csv" else "a.json")
    before, between, after = {
        "lines": ("", "\n", ""),
        "list": ("[", ",", "]"),
        "wrapped": ('{"data":[', ",", "]}"),
        "csv": ("instruction,output\n", "\n", "\n"),
    }[form]
    if form == "csv":
        record = '"' + "x" * 300 + '","' + "éà\n" * 5 + "y" * 2600 + '"'
    with path.open("w") as file:
        file.write(before + record + (between + record) * 3_999 + after)
    assert path.stat().st_size > 10 << 20
    tracemalloc.start()
    try:
        records = sum(batch.records for batch in read_file(path, "s", limits=Limits(batch_bytes=1 << 20)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert records == 4_000
    assert peak < 7 << 20


# --- real files: records, rows, what was quarantined ------------------------------------------------------------------

REAL = {
    "formats/alpaca_en_demo.json": (999, {}),
    "formats/alpaca_zh_demo.json": (1000, {}),
    "formats/dpo_en_demo.json": (300, {}),
    "formats/glaive_toolcall_en_demo.json": (300, {}),
    "formats/instructionwild_bad_escapes.jsonl": (0, {"invalid_escape": 2, "no_response": 246}),
    "formats/kto_en_demo.json": (150, {"undesirable": 150}),
    "formats/oasst_trees.jsonl": (100, {}),
    "formats/sharegpt_dummy.json": (500, {}),
    "formats/v1_sft_demo.jsonl": (500, {}),
    "pools/alpaca.jsonl": (29_700, {}),
    "pools/alpaca_libre_tasks_v1.jsonl": (2375, {}),
    "pools/alpaca_libre_tasks_v2.jsonl": (2280, {"malformed_json": 14}),
    "pools/belle_zh.json": (1000, {}),
    "pools/code_alpaca.json": (4535, {}),
    "pools/dolly.json": (2996, {}),
    "pools/gpteacher_codegen.json": (4535, {}),
    "pools/gpteacher_roleplay.json": (1923, {}),
    "pools/gpteacher_toolformer.json": (7673, {}),
    "pools/gsm8k.jsonl": (7473, {}),
    "pools/lima.jsonl": (1030, {}),
    "pools/ruozhiba_zh.json": (2449, {}),
    "pools/self_instruct_seeds.jsonl": (175, {}),
    "targets/bbh_boolean_expressions.json": (250, {}),
    "targets/bbh_causal_judgement.json": (187, {}),
    "targets/bbh_date_understanding.json": (250, {}),
    "targets/bbh_navigate.json": (250, {}),
    "targets/bbh_object_counting.json": (250, {}),
    "targets/bbh_word_sorting.json": (250, {}),
    "targets/gsm8k_test.jsonl": (1319, {}),
    "targets/humaneval.jsonl": (164, {}),
    "targets/ifeval.jsonl": (0, {"no_response": 541}),
    "targets/koala.jsonl": (0, {"no_response": 180}),
    "targets/mt_bench.jsonl": (0, {"no_response": 80}),
    "targets/vicuna.jsonl": (0, {"no_response": 80}),
    "targets/wizardlm.jsonl": (0, {"no_response": 218}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared_data, name):
    rows, quarantined = read(shared_data / name)
    expected, reasons = REAL[name]
    assert len(rows) == expected
    assert dict(quarantined["reason"].value_counts().iter_rows()) == reasons
    if name.startswith("targets/") and reasons:
        rows, quarantined = read(shared_data / name, layout="prompts")
        assert (len(rows), len(quarantined)) == (sum(reasons.values()), 0)


def test_real_rows_that_two_sources_share(shared_data):
    one, _ = read(shared_data / "pools/code_alpaca.json")
    other, _ = read(shared_data / "pools/gpteacher_codegen.json")
    assert one["row_id"].to_list() == other["row_id"].to_list()
    alpaca, _ = read(shared_data / "pools/alpaca.jsonl")
    assert alpaca.filter(pl.col("response") == "").height == 19


def test_real_trees_with_every_path(shared_data):
    best, _ = read(shared_data / "formats/oasst_trees.jsonl")
    every, _ = read(shared_data / "formats/oasst_trees.jsonl", paths="all")
    # A best path that lost its unanswered end may be the beginning of the first of all paths.
    for short, long in zip(best["messages"], every.filter(pl.col("part") == 0)["messages"], strict=True):
        assert long[: len(short)].to_list() == short.to_list()
    assert len(every) > 300
