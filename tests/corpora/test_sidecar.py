import datetime
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resizable_search.corpora import decoding
from resizable_search.corpora.base import Document
from resizable_search.corpora.inputs import Sidecar
from resizable_search.errors import CorpusError


def lines(tmp_path, *records_, name="docs.jsonl"):
    path = tmp_path / name
    texts = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in records_]
    path.write_bytes(b"".join(text + b"\n" for text in texts))
    return path


def table(tmp_path, rows, name="docs.parquet", **how):
    path = tmp_path / name
    pq.write_table(pa.Table.from_pylist(rows), path, **how)
    return path


def documents(path):
    return list(Sidecar(path).read())


def total(path):
    return Sidecar(path).count()


@pytest.fixture(params=["jsonl", "json", "parquet"])
def write(request, tmp_path):
    if request.param == "jsonl":
        return lambda *rows: lines(tmp_path, *rows)
    if request.param == "json":
        return lambda *rows: lines(tmp_path, list(rows), name="docs.json")
    return lambda *rows: table(tmp_path, list(rows))


def test_fields_metadata_and_what_is_missing(write):
    path = write(
        {
            "id": "a",
            "title": "A",
            "url": "http://a",
            "text": "of a",
            "year": 1999,
            "good": True,
            "tags": ["x"],
        },
        {"id": None, "title": None, "url": None, "text": None, "year": None, "good": None, "tags": None},
        {"id": "", "title": "é 😀", "url": "", "text": " ", "year": 3, "good": False, "tags": []},
    )
    first, second, third = documents(path)
    assert first == Document("a", "A", "http://a", "of a", {"year": 1999, "good": True})
    assert (second.id, second.title, second.url, second.text) == ("1", "", "", "")
    assert (third.id, third.title, third.text) == ("2", "é 😀", " ")
    assert total(path) == 3


def test_numbers_serve_as_ids_and_titles(write):
    (document,) = documents(write({"id": 17, "title": 2.5}))
    assert (document.id, document.title) == ("17", "2.5")


@pytest.mark.parametrize("field", ["id", "title", "url", "text"])
def test_a_field_that_is_no_text_is_an_error(write, field):
    path = write({field: ["x"]})
    with pytest.raises(CorpusError, match=f"(line 1|row 0): its {field} is not text"):
        documents(path)


def test_documents_come_in_order(write):
    path = write(*({"id": f"d{i}", "text": f"text {i}"} for i in range(700)))
    assert [document.id for document in documents(path)] == [f"d{i}" for i in range(700)]
    assert total(path) == 700


def test_times_decimals_and_nan_in_parquet_become_flat_json(tmp_path):
    path = table(
        tmp_path,
        [
            {
                "id": "a",
                "day": datetime.date(2024, 5, 1),
                "price": Decimal("1.50"),
                "x": float("nan"),
                "raw": b"\xff",
                "word": b"x",
            }
        ],
    )
    assert documents(path)[0].metadata == {"day": "2024-05-01", "price": "1.50", "x": None, "word": "x"}


def test_binary_ids_are_in_hex_and_far_dates_are_left_out(tmp_path):
    path = tmp_path / "docs.parquet"
    days = pa.array([2**31 - 1], pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"id": [b"\xff\1"], "text": [b"river"], "until": days}), path)
    assert documents(path) == [Document("ff01", "", "", "river", {"until": None})]
    pq.write_table(pa.table({"text": [b"\xff\1"]}), path)
    with pytest.raises(CorpusError, match="row 0: its text is not text"):
        documents(path)


def test_what_json_has_beyond_json_is_no_number(tmp_path):
    assert documents(lines(tmp_path, b'{"x": NaN, "y": -Infinity}'))[0].metadata == {"x": None, "y": None}


def test_blank_lines_a_byte_order_mark_and_a_missing_last_newline(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a"}\r\n\n  \n{"id": "b"}')
    assert [d.id for d in documents(path)] == ["a", "b"]
    assert total(path) == 2


def test_the_format_follows_from_the_name_or_the_first_bytes(tmp_path):
    assert documents(table(tmp_path, [{"id": "a"}], name="docs.data"))[0].id == "a"
    assert documents(lines(tmp_path, {"id": "a"}, name="docs.txt"))[0].id == "a"
    with pytest.raises(CorpusError, match="cannot be read as Parquet"):
        total(lines(tmp_path, {}, name="lines.parquet"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"id": "x"', "is not JSON"),
        (b"id,title", "is not JSON"),
        (b'[{"id": "x"}]', "is not a JSON object"),
        (b'"text"', "is not a JSON object"),
        (b'{"id": "\xff"}', "is not UTF-8"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "is not JSON"),
    ],
    ids=["cut", "csv", "array", "text", "latin", "deep", "digits"],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, words):
    path = lines(tmp_path, {"id": "a"}, b"", {"id": "b"}, line, {"id": "c"})
    with pytest.raises(CorpusError, match=words) as caught:
        documents(path)
    assert f"{path}, line 4: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_LINE", 1000)
    path = lines(tmp_path, {"id": "a"}, b"x" * 2000)
    with pytest.raises(CorpusError, match="line 2: it is longer than"):
        documents(path)


def test_a_parquet_file_that_was_damaged_is_reported(tmp_path):
    path = table(tmp_path, [{"id": f"d{i}", "text": "some words " * 50 + str(i)} for i in range(2000)])
    data = bytearray(path.read_bytes())
    data[100:2000] = bytes(1900)
    path.write_bytes(bytes(data))
    with pytest.raises(CorpusError, match="cannot be read as Parquet"):
        documents(path)


def test_a_file_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(CorpusError, match="cannot read"):
        Sidecar(tmp_path / "none.jsonl")
