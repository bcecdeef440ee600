"""What a file is, by its name, and the text of those that are one document."""

import os
from dataclasses import dataclass
from enum import StrEnum

from resizable_search.corpora.chunking import Heading, Outline
from resizable_search.corpora.files.decoding import decode, encoding_of
from resizable_search.corpora.files.headings import markdown, restructured
from resizable_search.corpora.files.html_text import declared_encoding, html_text
from resizable_search.corpora.files.opening import Packing, read_whole
from resizable_search.corpora.files.pdf_text import pdf_text


class Format(StrEnum):
    """How a file is read."""

    text = "text"
    markdown = "markdown"
    rst = "rst"
    html = "html"
    pdf = "pdf"
    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


TABLES = frozenset({Format.jsonl, Format.csv, Format.tsv, Format.parquet})
"""Files whose records are documents; any other is one document."""

_BY_SUFFIX = {
    ".md": Format.markdown,
    ".markdown": Format.markdown,
    ".rst": Format.rst,
    ".html": Format.html,
    ".htm": Format.html,
    ".xhtml": Format.html,
    ".svg": Format.html,  # has no text that is one, and is left out so
    ".pdf": Format.pdf,
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".csv": Format.csv,
    ".tsv": Format.tsv,
    ".parquet": Format.parquet,
}
_PACKINGS = {packing.value: packing for packing in Packing if packing.value}


@dataclass(frozen=True, slots=True)
class Parsed:
    """The text of a file that is one document, its title ('' if it has none), and its shape."""

    text: str
    title: str
    outline: Outline


def format_of(name: str) -> tuple[Format, Packing]:
    """How to read a file of this name; what has no known suffix is text, if it is text at all."""
    stem, suffix = os.path.splitext(name.lower())
    packing = _PACKINGS.get(suffix, Packing.none)
    if packing is not Packing.none:
        suffix = os.path.splitext(stem)[1]
    return _BY_SUFFIX.get(suffix, Format.text), packing


def parse(path: str, form: Format, packing: Packing) -> Parsed:
    """Read a file that is one document. Raises UnreadableError."""
    data = read_whole(path, packing)
    if form is Format.pdf:
        text, pages, title = pdf_text(data)
        return Parsed(text, title, Outline(pages=pages))
    if form is Format.html:
        text, headings, title = html_text(_page(data))
        return Parsed(text, title or _first(headings), Outline(headings))
    text = decode(data)
    headings, title = [], ""
    if form is Format.markdown:
        headings, title = markdown(text)
    elif form is Format.rst:
        headings = restructured(text)
    outline = Outline(headings, lined=True, markdown=form is Format.markdown)
    return Parsed(text, title or _first(headings), outline)


def _first(headings: list[Heading]) -> str:
    return headings[0].title if headings else ""


def _page(data: bytes) -> str:
    """A page's characters: what they can be as UTF, they are; else what the page says of itself counts."""
    said = declared_encoding(data)
    if said is not None and not encoding_of(data, whole=True).startswith("utf"):
        return data.decode(said, "replace")
    return decode(data)
