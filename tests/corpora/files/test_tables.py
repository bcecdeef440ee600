"""Records of tables, from any position on, and what is wrong with some of them."""

import datetime
import gzip
import io
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resizable_search.corpora import decoding, tables
from resizable_search.corpora.decoding import SourceFile, UnreadableError
from resizable_search.corpora.formats import format_of
from resizable_search.corpora.tables import TABLES, JsonLines, Parquet, Table


@pytest.fixture
def table(write):
    def opened(name: str, content: str | bytes, typed: Sequence[str] = (), delimiter: str = "") -> Table:
        form, packing = name.split(".")[1], format_of(name)[1]
        source = SourceFile(str(write({name: content}) / name), packing)
        return TABLES[form](source, ["text", "a", "b"], typed, delimiter=delimiter or None)

    return opened


def parquet(rows: list[dict] | pa.Table, **how) -> bytes:
    into = io.BytesIO()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), into, **how)
    return into.getvalue()


def values(rows: Table) -> list[tuple]:
    return [(record.number, record.problem or dict(record.values)) for record in rows.read()]


ROWS = [{"text": f"text {i}", "a": f"a{i}"} for i in range(700)]
FORMS = {
    "rows.jsonl": lambda: "".join(json.dumps(row) + "\n" for row in ROWS),
    "rows.json": lambda: json.dumps(ROWS, indent=1),
    "rows.csv": lambda: "text,a\n" + "".join(f"{row['text']},{row['a']}\n" for row in ROWS),
    "rows.tsv": lambda: "text\ta\r\n" + "".join(f"{row['text']}\t{row['a']}\r\n" for row in ROWS),
    "rows.parquet": lambda: parquet(ROWS, row_group_size=300),
    "rows.csv.gz": lambda: gzip.compress(FORMS["rows.csv"]().encode()),
    "rows.jsonl.zst": lambda: pa.compress(FORMS["rows.jsonl"]().encode(), "zstd", asbytes=True),
    "rows.parquet.gz": lambda: gzip.compress(FORMS["rows.parquet"]()),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_format_gives_the_same_records(table, name: str):
    rows = table(name, FORMS[name]())
    whole = list(rows.read())
    assert rows.columns() == ["text", "a"]
    assert [dict(record.values) for record in whole] == ROWS
    if isinstance(rows, JsonLines | Parquet):
        for cut in (0, 1, 255, 256, 299, 300, 699):
            assert list(rows.read(whole[cut].number)) == whole[cut + 1 :]


def test_a_record_of_several_lines_has_the_place_of_its_first(table):
    rows = table("a.csv", 'text,a\n"one\ntwo",1\n\nthree,2\n')
    assert values(rows) == [(2, {"text": "one\ntwo", "a": "1"}), (5, {"text": "three", "a": "2"})]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rag,1", "it has 2 values for 3 columns"),
        ("rag,1,2,3", "it has 4 values for 3 columns"),
        ('"bad"x,1,2', "its quotes or commas make no sense"),
        (b"\xff,1,2", "it is not UTF-8"),
    ],
    ids=["few", "many", "quotes", "bytes"],
)
def test_a_bad_row_is_reported_by_its_line_and_the_next_one_is_read(table, line: str | bytes, words: str):
    before = "\ufefftext,a,b\nfirst,1,2\n".encode()
    bad = line if isinstance(line, bytes) else line.encode()
    (_, first), (number, problem), (_, last) = values(table("a.csv", before + bad + b"\nlast,1,2\n"))
    assert (first["text"], number, last["text"]) == ("first", 3, "last")
    assert words in problem


def test_quotes_that_are_not_closed_are_reported(table, monkeypatch):
    assert "unexpected end of data" in values(table("a.csv", 'text,a\n"never,1\nx,2\n'))[0][1]
    for module in (decoding, tables):
        monkeypatch.setattr(module, "MAX_LINE", 1000)
    records = table("a.csv", 'text,a\nfine,1\n"never,1\n' + "x,2\n" * 1000).read()
    assert next(records).values["text"] == "fine"
    with pytest.raises(UnreadableError, match="its record in line 3 is longer"):
        next(records)
    with pytest.raises(UnreadableError, match="its line 2 is longer"):
        list(table("b.csv", "text\n" + "x" * 2000).read())


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("text;a\nx;1,5\n", ["x", "1,5"]),
        ("sep=|\ntext|a\nx|2\n", ["x", "2"]),
        ("text\ta\nx\t2\n", ["x", "2"]),
        ('"gross, total";text\nx;2\n', ["x", "2"]),
        ('"of two\nlines, it is";text\nx;2\n', ["x", "2"]),
        ("\n\ntext;a\nx;1,5\n", ["x", "1,5"]),
        ('text, a\nx, "1, 5"\n', ["x", "1, 5"]),
        ('"text", "a"\nx, 2\n', ["x", "2"]),
    ],
    ids=["semicolons", "as Excel says", "tabs", "quotes", "lines", "blank", "spaces", "quotes and spaces"],
)
def test_the_header_says_what_stands_between_columns(table, content: str, columns: list[str]):
    rows = table("a.csv", content)
    assert [list(record.values.values()) for record in rows.read()] == [columns]
    assert rows.columns() == [name.strip() for name in rows.columns()]


def test_a_delimiter_that_is_given_counts(table):
    assert values(table("a.csv", "text:a\nx,y:2\n", delimiter=":")) == [(2, {"text": "x,y", "a": "2"})]
    rows = table("b.csv", "sep=;\ntext|a;b\nx|2\n", delimiter="|")
    assert values(rows) == [(3, {"text": "x", "a;b": "2"})]


@pytest.mark.parametrize("header", ['"never closed,text\n', '"gross, total"s;text\n'], ids=["open", "words"])
def test_a_header_that_makes_no_sense_is_reported(table, header: str):
    rows = table("a.csv", header + "river,bread\n")
    with pytest.raises(UnreadableError, match="its first line makes no sense"):
        rows.columns()
    with pytest.raises(UnreadableError, match="its first line makes no sense"):
        next(rows.read())


def test_quotes_in_tsv_may_be_words(table):
    assert values(table("a.tsv", 'text\ta\n"He said" no\t2\n')) == [(2, {"text": "He said no", "a": "2"})]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_tables_are_read_in_their_encoding(table, encoding: str):
    assert values(table("a.csv", "text\nÄpfel sind größer\n".encode(encoding))) == [
        (2, {"text": "Äpfel sind größer"})
    ]
    line = '{"text": "Äpfel sind größer"}\n'.encode(encoding)
    assert values(table("a.jsonl", line)) == [(1, {"text": "Äpfel sind größer"})]


def test_text_files_have_types_where_they_are_wanted(table):
    row = "x,1999,02,-1.5,true,2024-05-01,,1e9,12345678901234567890"
    rows = table("a.csv", f"text,a,b,c,d,e,f,g,h\n{row}\n", "abcdefgh")
    assert list(values(rows)[0][1].values()) == [
        "x", 1999, "02", -1.5, True, "2024-05-01", None, "1e9", "12345678901234567890",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["1.10", "1.9", "2", ""], ["1.10", "1.9", "2", None]),
        (["19.90", "5.00", "7"], [19.9, 5.0, 7]),
        (["10.0", "0.25", "1.5"], [10.0, 0.25, 1.5]),
    ],
    ids=["versions", "prices", "floats"],
)
def test_decimals_are_numbers_unless_they_are_versions(table, words: list[str], read: list):
    rows = table("a.csv", "text,a\n" + "".join(f"x,{word}\n" for word in words), "a")
    assert [(record.values["a"], type(record.values["a"])) for record in rows.read()] == [
        (value, type(value)) for value in read
    ]


def test_versions_are_told_from_what_can_be_read(table):
    lines = "text,a\n" + "".join(f"{i * 7919 % 100_003},1.10\n" for i in range(9000))
    with pytest.raises(UnreadableError, match="cut short"):
        list(table("a.csv.gz", gzip.compress(lines.encode())[:-2000], "a").read())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": "x"', "it is not JSON"),
        (b"[1]", "it is not a JSON object"),
        (b'{"text": "\xff"}', "it is not UTF-8"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "it is not JSON (it cannot be read)"),
    ],
    ids=["cut", "list", "bytes", "deep", "digits"],
)
def test_a_bad_line_is_reported_by_its_number_and_the_next_one_is_read(table, line: bytes, words: str):
    content = b'\xef\xbb\xbf{"text": "first"}\r\n\n' + line + b'\n{"text": "\\ud800"}'
    (_, first), (number, problem), (_, last) = values(table("a.jsonl", content))
    assert (first["text"], number, last["text"]) == ("first", 3, "\ud800")
    assert words in problem


def test_a_line_without_an_end_is_reported_and_not_read_into_memory(table, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_LINE", 1000)
    content = '{"text": "a"}\n' + "x" * 5500 + '\n{"text": "b"}\n'
    assert values(table("a.jsonl", content)) == [
        (1, {"text": "a"}), (2, "it is longer than 64 million characters"), (3, {"text": "b"}),
    ]  # fmt: skip


def test_what_is_not_json_lines_is_reported_once(table):
    pretty = json.dumps([{"text": "x"}], indent=1)
    with pytest.raises(UnreadableError, match="its line 1 and those after it: it is not JSON"):
        table("a.jsonl", pretty).columns()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"text": "x"},\n{"text"}]', r"it is not JSON \(Expecting ':' delimiter; line 2\)"),
        ("[" * 100_000, r"it is not JSON \(it cannot be read\)"),
        ('{"text": "x"}', "it is not an array of JSON objects"),
        (b"[\0\1\2\3", "it is not text"),
    ],
    ids=["broken", "deep", "object", "bytes"],
)
def test_what_is_no_array_of_json_is_reported(table, content: str | bytes, words: str):
    with pytest.raises(UnreadableError, match=words):
        table("a.json", content).columns()


def test_what_is_no_object_in_an_array_is_reported_by_its_number(table):
    rows = table("a.json", '[{"text": "x"}, 7, {"a": "y"}]')
    assert values(rows) == [(1, {"text": "x"}), (2, "it is not a JSON object"), (3, {"a": "y"})]
    assert rows.columns() == ["text", "a"]


def test_an_array_is_read_whole_and_may_not_be_too_large(table, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_BYTES", 1 << 20)
    with pytest.raises(UnreadableError, match="it is larger than 1 MB: split it, or make JSON lines of it"):
        list(table("a.json", "[" + " " * (1 << 20) + "]").read())


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv"])
def test_a_table_without_anything_in_it_has_no_columns(table, name: str):
    assert table(name, "\n\n").columns() is None
    assert table(name, "").columns() is None
    assert values(table(name, "")) == []


def test_a_packed_table_that_is_cut_short_is_read_as_far_as_it_goes(table):
    lines = "".join(json.dumps({"text": f"text {i * 7919 % 100_003}"}) + "\n" for i in range(20_000))
    read = []
    with pytest.raises(UnreadableError, match="cut short"):  # noqa: PT012
        for record in table("a.jsonl.gz", gzip.compress(lines.encode())[:-2000]).read():
            read.append(record)
    assert len(read) > 1000


def test_only_the_wanted_columns_of_parquet_are_read(table):
    rows = [{"text": "x", "c": "no", "a": datetime.date(2024, 5, 1)}]
    assert values(table("a.parquet", parquet(rows))) == [(1, {"text": "x", "a": datetime.date(2024, 5, 1)})]


@pytest.mark.parametrize("data", [b"", b"PAR1 no more", parquet(ROWS)[:-9]], ids=["empty", "words", "cut"])
def test_parquet_that_is_damaged_is_reported(table, data: bytes):
    rows = table("a.parquet", data)
    with pytest.raises(UnreadableError, match="cannot be read as Parquet"):
        rows.columns()
    with pytest.raises(UnreadableError, match="cannot be read as Parquet"):
        list(rows.read())


def numbers(kind: pa.DataType, *values: int) -> pa.Array:
    """An array whose values are these numbers, even such as the type has no names for."""
    return pa.array(values, pa.int32() if kind == pa.date32() else pa.int64()).view(kind)


@pytest.mark.parametrize(
    ("column", "read"),
    [
        (
            numbers(pa.date32(), 2**31 - 1, 3_672_192, -800_000, 1),
            [None, "12024-02-14", "-0221-09-04", datetime.date(1970, 1, 2)],
        ),
        (numbers(pa.timestamp("us"), 2**63 - 1, -(2**62)), [None, None]),
        (numbers(pa.timestamp("s", "UTC"), 2**63 - 1), [None]),
        (numbers(pa.timestamp("s", "No/Zone"), 1), [datetime.datetime(1970, 1, 1, 0, 0, 1)]),
        (numbers(pa.duration("s"), 2**63 - 1), [None]),
        (numbers(pa.time64("us"), 2**62), [None]),
        (pa.array([b"\xff", b"x"]).view(pa.string()), [b"\xff", "x"]),
        (pa.array([[2**31 - 1]], pa.list_(pa.int32())).cast(pa.list_(pa.date32())), [None]),
    ],
    ids=["days", "times", "zone", "unknown zone", "durations", "clock", "bytes", "list"],
)
def test_a_value_that_python_cannot_hold_is_text_or_left_out(table, column: pa.Array, read: list):
    batch = pa.record_batch({"text": [f"t{i}" for i in range(len(column))], "a": column})
    assert tables.rows_of(batch) == [{"text": f"t{i}", "a": value} for i, value in enumerate(read)]


def test_what_parquet_holds_beyond_python_costs_no_row(table):
    days = numbers(pa.date32(), 2**31 - 1, 1)
    texts = pa.array([b"\xff", b"x"]).view(pa.string())
    rows = table("a.parquet", parquet(pa.table({"text": texts, "a": days})))
    assert [record.values for record in rows.read(1)] == [{"text": "x", "a": datetime.date(1970, 1, 2)}]
    assert [record.values for record in rows.read()][0] == {"text": b"\xff", "a": None}
