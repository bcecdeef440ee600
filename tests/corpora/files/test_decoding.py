"""Encodings are told apart, and what is no text is."""

import random

import pytest

from resizable_search.corpora.files.decoding import UnreadableError, decode, encoding_of

GERMAN = "Die Äpfel sind größer als die Birnen."
POLISH = "Zażółć gęślą jaźń. Wszyscy ludzie rodzą się wolni i równi pod względem swej godności."
RUSSIAN = "Съешь ещё этих мягких французских булок, да выпей чаю."
JAPANESE = "自然言語処理は人工知能と言語学の一分野である。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *(
            (GERMAN, e)
            for e in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1")
        ),
        ("He said \u201cwell\u201d \u2014 it\u2019s 5\u20ac for na\u00efve caf\u00e9s.", "cp1252"),
        ("caf\u00e9", "cp1252"),
        ("The quick brown fox jumps. " * 5000 + "na\u00efve", "cp1252"),
        (POLISH, "cp1250"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "utf-16"),
        ("", "utf-8"),
    ],
    ids=lambda value: value[:12],
)
def test_a_text_is_read_in_the_encoding_that_it_was_written_in(text: str, encoding: str):
    assert decode(text.encode(encoding)) == text


def test_ends_of_lines_become_line_feeds():
    assert decode(b"a\r\nb\rc\n\n") == "a\nb\nc\n\n"


def test_a_nul_in_a_text_is_a_slip():
    assert decode(b"Before\0after, and more of it.") == "Before\0after, and more of it."


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + random.Random(0).randbytes(900),
        random.Random(1).randbytes(5000),
        b"\x7fELF\x02\x01\x01" + bytes(50) + b"some words",
        bytes(100),
        b"\xff\xfe" + b"\x00\xd8" * 3,
        b"words and then \xff\x00\x00",
    ],
    ids=["picture", "noise", "program", "zeros", "half a pair", "late"],
)
def test_what_is_no_text_is_refused(data: bytes):
    with pytest.raises(UnreadableError):
        decode(data)


def test_noise_is_hardly_ever_taken_for_text():
    for seed in range(300):
        with pytest.raises(UnreadableError):
            encoding_of(random.Random(seed).randbytes(200), whole=True)


def test_a_sample_may_end_within_a_character():
    data = JAPANESE.encode() * 100
    for cut in (1000, 1001, 1002):
        assert encoding_of(data[:cut], whole=False) == "utf-8"
