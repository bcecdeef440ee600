"""Long documents become chunks that name their document and place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resizable_search.corpora.base import Document
from resizable_search.corpora.chunking import (
    Chunking,
    Heading,
    Outline,
    chunking_of,
    context_of,
    count_tokens,
)
from resizable_search.corpora.formats import markdown_text
from resizable_search.errors import UsageError


def outline_of(text: str) -> Outline:
    return Outline(markdown_text(text)[1], lined=True, markdown=True)


def chunks(text: str, size: str, overlap: int = 0, outline: Outline | None = None) -> list[str]:
    chunking = chunking_of(size, overlap)
    return [text[a:b] for a, b in chunking.spans(text, outline or Outline())]


SENTENCES = [f"Sentence number {i} says something of its own." for i in range(60)]
PARAGRAPHS = "\n\n".join(" ".join(SENTENCES[i : i + 6]) for i in range(0, 60, 6))


def test_a_text_that_fits_is_one_chunk():
    assert chunks("  one short text \n", "400") == ["one short text"]


@pytest.mark.parametrize(("size", "measure"), [("80t", count_tokens), ("80", count_tokens), ("400c", len)])
def test_no_chunk_is_larger_than_asked_for(size: str, measure):
    pieces = chunks(PARAGRAPHS, size)
    assert max(map(measure, pieces)) <= chunking_of(size).size
    assert len(pieces) > 5
    assert " ".join(" ".join(pieces).split()) == " ".join(PARAGRAPHS.split())


def test_a_text_is_split_where_paragraphs_end_and_else_where_sentences_do():
    paragraphs = PARAGRAPHS.split("\n\n")
    assert chunks(PARAGRAPHS, f"{len(paragraphs[1]) + 5}c") == paragraphs
    pieces = chunks(PARAGRAPHS, "200c")
    assert all(piece.startswith("Sentence") and piece.endswith("own.") for piece in pieces)


def test_pieces_of_a_section_overlap_as_far_as_asked():
    spans = list(chunking_of("150c", 60).spans(PARAGRAPHS))
    shared = [stop - start for (_, stop), (start, _) in zip(spans, spans[1:], strict=False)]
    assert 0 < max(shared) <= 60
    assert max(b - a for a, b in spans) <= 150
    assert all(after > before for (before, _), (after, _) in zip(spans, spans[1:], strict=False))


BOOK = """Before.

# Book

Intro.

## One

First.

### Detail

More.

## Two

Second.

# Appendix

Last.
"""


def test_a_chunk_holds_whole_sections_and_stops_before_one_that_outranks_its_first():
    def sections(size: str) -> list[list[str]]:
        return [
            [line for line in chunk.splitlines() if line.startswith("#")]
            for chunk in chunks(BOOK, size, outline=outline_of(BOOK))
        ]

    assert sections("400c") == [["# Book", "## One", "### Detail", "## Two", "# Appendix"]]
    assert sections("40c") == [["# Book"], ["## One", "### Detail"], ["## Two"], ["# Appendix"]]
    assert sections("65c") == [["# Book", "## One", "### Detail"], ["## Two"], ["# Appendix"]]


def test_a_chunk_names_its_document_lines_and_headings():
    document = Document("book.md", "Book", "file:///book.md", BOOK, {"path": "book.md"})
    documents = chunking_of("40c").documents(document, outline_of(BOOK))
    assert [chunk.id for chunk in documents] == [f"book.md#c{i}" for i in range(1, 5)]
    assert {(chunk.title, chunk.url) for chunk in documents} == {("Book", "file:///book.md")}
    lines = BOOK.splitlines()
    for chunk in documents:
        metadata = chunk.metadata
        assert (metadata["path"], metadata["document"]) == ("book.md", "book.md")
        assert "\n".join(lines[metadata["line"] - 1 : metadata["line_end"]]) == chunk.text
    assert [chunk.metadata.get("heading") for chunk in documents] == [
        None, "Book › One", "Book › Two", "Appendix",
    ]  # fmt: skip


def test_a_heading_alone_is_no_chunk_where_those_below_it_have_it():
    text = "# Alone\n\n" + "# Book\n\n## One\n\n" + "First. " * 9 + "\n\n## Last\n"
    document = Document("book.md", "Book", "", text)

    def of(size: str, *, lone_headings: bool) -> list[Document]:
        return chunking_of(size).documents(document, outline_of(text), lone_headings=lone_headings)

    documents = of("12c", lone_headings=False)
    assert [chunk.text for chunk in documents if chunk.text[0] == "#"] == ["# Alone", "## Last"]
    assert {chunk.metadata["heading"] for chunk in documents} == {"Alone", "Book › One", "Book › Last"}
    before = [chunk.text for chunk in of("12c", lone_headings=True) if chunk.text[0] == "#"]
    assert before == ["# Alone", "# Book", "## One", "## Last"]


def test_a_chunk_of_a_file_with_pages_names_them_and_its_address_leads_there():
    pages = [f"{page} " + "word " * 30 for page in "abcd"]
    starts = [sum(len(p) + 2 for p in pages[:i]) for i in range(4)]
    document = Document("a.pdf", "A", "file:///a.pdf", "\n\n".join(pages))
    documents = chunking_of("250c").documents(document, Outline(pages=starts))
    assert [(c.metadata["page"], c.metadata["page_end"], c.url) for c in documents] == [
        (page, page, f"file:///a.pdf#page={page}") for page in (1, 2, 3, 4)
    ]
    (whole,) = chunking_of("5000c").documents(document, Outline(pages=starts))
    assert (whole.metadata["page"], whole.metadata["page_end"]) == (1, 4)


def test_a_document_of_one_chunk_may_keep_its_own_id():
    document = Document("a.md", "A", "file:///a.md", "# A\n\nwords\n", {"path": "a.md"})
    (single,) = chunking_of("400").documents(document, outline_of(document.text), keeps_single=True)
    assert (single.id, single.text) == ("a.md", "# A\n\nwords")
    assert single.metadata == {"path": "a.md", "heading": "A", "line": 1, "line_end": 3}
    several = chunking_of("5c").documents(document, keeps_single=True)
    assert [chunk.id for chunk in several] == ["a.md#c1", "a.md#c2"]


@pytest.mark.parametrize(
    ("title", "heading", "context"),
    [
        ("", None, ""),
        ("Book", None, "Book\n\n"),
        ("", "One", "One\n\n"),
        ("Book", "Book › One", "Book › One\n\n"),
        ("Book", "Bookends", "Book › Bookends\n\n"),
        ("x" * 999, "One", "x" * 300 + "\n\n"),
    ],
)
def test_title_and_headings_go_before_a_text_that_is_embedded(title: str, heading, context: str):
    assert context_of(title, {"heading": heading} if heading else {}) == context


def test_a_document_without_text_stays_one():
    blank = Document("a", "", "", " \n", problem="why")
    assert chunking_of("400").documents(blank) == [blank]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("word", 1),
        ("tokens", 1),
        ("tokenizer", 2),
        ("don't stop", 4),
        ("2024-05", 4),
        ("自然言語", 4),
        ("é", 1),
    ],
)
def test_tokens_are_counted_by_a_rule(text: str, count: int):
    assert count_tokens(text) == count


@pytest.mark.parametrize("text", ["word " * 40_000, "x" * 200_000, "自然言語" * 20_000, " " * 200_000 + "a"])
@pytest.mark.parametrize("size", ["400t", "1600c"])
def test_a_line_without_an_end_is_split_all_the_same(text: str, size: str):
    # The splitter alone would take the square of the text's length.
    pieces = chunks(text, size)
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize("indent", ["  ", "\t"])
def test_a_list_that_is_nested_hundreds_deep_is_split(indent: str):
    """Its white space was counted again at each level: 390 kB took eight seconds."""
    text = "".join(indent * level + "- item\n" for level in range(800 // len(indent)))
    spans = list(Chunking(400).spans(text, Outline(markdown=True)))
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())


@given(
    st.lists(st.text(st.sampled_from("ab. \n#é語"), max_size=40), max_size=12),
    st.integers(4, 60),
    st.sampled_from("tc"),
    st.integers(0, 2),
)
def test_chunks_are_in_order_within_the_size_and_leave_out_white_space_alone(parts, size, unit, overlap):
    text = "\n\n".join(parts)
    offsets = [sum(len(p) + 2 for p in parts[:i]) for i in range(len(parts))]
    headings = [Heading(at, 1 + i % 3, f"h{i}") for i, at in enumerate(offsets) if i % 2]
    chunking = Chunking(size, unit, overlap)
    measure = len if unit == "c" else count_tokens
    reached = 0
    for start, stop in chunking.spans(text, Outline(headings)):
        assert start < stop
        assert not text[reached:start].strip()
        assert measure(text[start:stop]) <= size
        assert text[start:stop] == text[start:stop].strip()
        reached = max(reached, stop)
    assert not text[reached:].strip()


@pytest.mark.parametrize("size", ["", "x", "-1", "0", "4 00", "1600x", "٤"])
def test_a_size_that_makes_no_sense_is_wrong_usage(size: str):
    with pytest.raises(UsageError):
        chunking_of(size)


def test_an_overlap_of_more_than_half_is_wrong_usage():
    with pytest.raises(UsageError, match="chunks of 10t cannot overlap by 6: give 0 to 5"):
        Chunking(10, "t", 6)
    with pytest.raises(UsageError, match="overlap"):
        Chunking(10, "t", -1)


@pytest.mark.parametrize("size", ["20t", "100c", "500t"])
def test_headings_behind_the_end_of_a_cut_text_make_no_chunks(size: str):
    text = "Some words of a section. " * 40
    headings = [Heading(0, 1, "One"), Heading(5000, 2, "Two"), Heading(9000, 1, "Three")]
    assert chunks(text, size, 0, Outline(headings)) == chunks(text, size, 0, Outline(headings[:1]))
