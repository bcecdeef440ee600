"""Which columns make a document, and what their values become."""

import datetime
import uuid
from decimal import Decimal

import pytest

from resizable_search.corpora.base import Document, as_metadata, as_text
from resizable_search.corpora.tables import Columns, typed
from resizable_search.errors import UsageError


def test_fields_go_by_their_own_names_as_far_as_they_are_there():
    record = {"text": "some", "title": None, "id": 7, "year": 1999}
    document = Columns(metadata=("year",)).document(record, "row:1", {"line": 3})
    assert (document.id, document.title, document.url, document.text) == ("7", "", "", "some")
    assert document.metadata == {"line": 3, "year": 1999}
    assert Columns().document({"text": "some"}, "row:1", {}).id == "row:1"


def test_columns_that_are_named_must_be_there_and_others_need_not():
    assert Columns().lacks(["text"]) == ""
    assert Columns().lacks(["body"]) == "it has no column 'text': its columns are body"
    lacks = Columns("body", id="key", metadata=("year",)).lacks(["body", "id"])
    assert lacks == "it has no column 'key', 'year': its columns are body, id"
    assert len(Columns().lacks(["x" * 1000])) < 200


def test_a_table_that_lacks_columns_is_reported_with_those_it_has():
    assert Columns("x").lacks(["a", "b"]) == "it has no column 'x': its columns are a, b"
    assert Columns("x").lacks([f"c{i}" for i in range(15)]).endswith("c10, c11 and 3 others")


@pytest.mark.parametrize("columns", [{"text": ""}, {"metadata": ("a", "a")}, {"metadata": ("",)}])
def test_columns_without_a_name_or_named_twice_are_wrong_usage(columns: dict):
    with pytest.raises(UsageError):
        Columns(**columns)


@pytest.mark.parametrize(
    ("value", "text", "metadata"),
    [
        ("a", "a", "a"),
        (None, "", None),
        (7, "7", 7),
        (True, "True", True),
        (2.5, "2.5", 2.5),
        (float("nan"), "", None),
        (Decimal("1.50"), "1.50", 1.5),
        (Decimal("15"), "15", 15),
        (datetime.date(2024, 5, 1), "2024-05-01", "2024-05-01"),
        (datetime.datetime(2024, 5, 1, 6, 7), "2024-05-01T06:07:00", "2024-05-01T06:07:00"),
        (["é", 1], '["é", 1]', '["é", 1]'),
        ({"a": datetime.date(2024, 5, 1)}, '{"a": "2024-05-01"}', '{"a": "2024-05-01"}'),
        (Decimal("1E+3"), "1000", 1000),
        ("é\n".encode(), "é\n", "é\n"),
        (uuid.UUID(int=1), f"{uuid.UUID(int=1)}", f"{uuid.UUID(int=1)}"),
        (datetime.time(6, 7), "06:07:00", "06:07:00"),
        (datetime.timedelta(hours=30), "1 day, 6:00:00", "1 day, 6:00:00"),
        (
            [b"x", b"\xff", uuid.UUID(int=1)],
            f'["x", "ff", "{uuid.UUID(int=1)}"]',
            f'["x", "ff", "{uuid.UUID(int=1)}"]',
        ),
    ],
    ids=repr,
)
def test_values_become_text_and_flat_json(value: object, text: str, metadata: object):
    assert as_text(value) == text
    assert as_metadata({"a": value}) == {"a": metadata}
    assert type(as_metadata({"a": value})["a"]) is type(metadata)


@pytest.mark.parametrize("raw", [b"\xff\xd8", b"\0\1"], ids=["no UTF-8", "controls"])
def test_binary_values_are_ids_in_hex_and_neither_metadata_nor_texts(raw: bytes):
    document = Columns(metadata=("raw",)).document({"id": raw, "text": "a", "raw": raw}, "1", {})
    assert (document.id, document.text, document.metadata) == (raw.hex(), "a", {})
    document = Columns().document({"id": 7, "text": raw}, "1", {"row": 3})
    assert document == Document("7", "", "", "", {"row": 3}, "its text is binary")


def test_a_value_of_an_unknown_kind_is_its_words_and_no_metadata():
    assert as_text(range(3)) == "range(0, 3)"
    assert as_metadata({"a": range(3)}) == {}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("", None), ("17", 17), ("-1", -1), ("0", 0), ("01234", "01234"), ("1.5", 1.5), ("1.5e3", 1500.0),
        (".5", ".5"), ("true", True), ("False", False), ("yes", "yes"), ("1,5", "1,5"), ("١", "١"),
        ("nan", "nan"), ("9" * 30, "9" * 30),
    ],
)  # fmt: skip
def test_words_of_text_files_have_the_type_that_they_are_written_as(word: str, value: object):
    assert typed(word) == value
    assert type(typed(word)) is type(value)
