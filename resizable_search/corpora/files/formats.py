"""What a file is, by its name, and the text of those that are one document.

The headings of Markdown and reStructuredText, by where their lines begin.

The text of HTML: a paragraph a block, headings where they stand.

Over lxml and selectolax, which are compiled and build a tree: 50,000 nested tags take selectolax 8 s. The
standard library's parser goes forwards, and needs no more than that.

The text of PDF files, page by page; needs the extra `pdf`.
"""

import io
import logging
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from html.parser import HTMLParser

from resizable_search.corpora.chunking import Heading, Outline
from resizable_search.corpora.files.compression import Packing, UnreadableError, read_whole
from resizable_search.corpora.files.decoding import cleaned, decode, encoding_of

_FRONT = re.compile(r"---\n(.*?\n)?(?:---|\.\.\.)(?:\n|$)", re.DOTALL)
_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*`]+|</?\w[^>]*>")
_ADORNED = re.compile(r"([!-/:-@\[-`{-~])\1+[ \t]*")


def markdown(text: str) -> tuple[list[Heading], str]:
    """The headings of a Markdown text that stand in no list or quotation, and the title of its front matter.

    Front matter is what stands first, between two lines of `---`.
    """
    from markdown_it import MarkdownIt

    front = _FRONT.match(text)
    start = front.end() if front else 0
    said = _TITLE.search(front[0]) if front else None
    # Blocks are enough: what is inside of them is not looked at, which takes most of the time.
    blocks = MarkdownIt("commonmark").disable(["inline"]).parse(text[start:])
    lines = _line_starts(text, start)
    found = [
        Heading(lines[opening.map[0]], int(opening.tag[1:]), _plain(inline.content))
        for opening, inline in zip(blocks, blocks[1:], strict=False)
        if opening.type == "heading_open" and opening.level == 0 and opening.map
    ]
    return [heading for heading in found if heading.title], said[1].strip("'\"") if said else ""


def restructured(text: str) -> list[Heading]:
    """The headings of a reStructuredText: lines that are underlined, and perhaps overlined.

    Their ranks are in the order in which their adornments come up. Over docutils, which runs a text's
    directives and has no place for those of Sphinx.
    """
    lines = text.split("\n")
    starts = _line_starts(text, 0)
    ranks: list[str] = []
    found = []
    number = 0
    while number + 1 < len(lines):
        title, below = lines[number], lines[number + 1]
        above = lines[number - 1] if number else ""
        adorned = _ADORNED.fullmatch(below) and len(below.rstrip()) >= len(title.strip())
        if title.strip() and adorned and not _ADORNED.fullmatch(title):
            over = above.rstrip() == below.rstrip()
            if over or ((not above.strip() or number == 0) and not title[0].isspace()):
                kind = below[0] + ("^" if over else "")
                if kind not in ranks:
                    ranks.append(kind)
                found.append(Heading(starts[number - over], ranks.index(kind) + 1, title.strip()))
                number += 1
        number += 1
    return found


def _line_starts(text: str, start: int) -> Sequence[int]:
    """Where each line from `start` on begins, and where the text ends."""
    found = [start]
    for line in text[start:].split("\n"):
        found.append(found[-1] + len(line) + 1)
    return found


def _plain(title: str) -> str:
    """A heading's words without the marks of emphasis, code and links."""
    return " ".join(_MARKUP.sub(lambda found: found[1] or "", title).split())


_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
_LOOKED_AT = 4096
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_PARAGRAPHS = {
    *_HEADINGS, "address", "article", "aside", "blockquote", "body", "caption", "dl", "details", "div",
    "figure", "figcaption", "footer", "form", "header", "hr", "main", "nav", "ol", "p", "pre", "section",
    "summary", "table", "ul",
}  # fmt: skip
_LINES = {"br", "dd", "dt", "li", "option", "tr"}
_CELLS = {"td", "th"}
_SILENT = {"script", "style", "template", "svg", "math"}
_SPACES = re.compile(r"[ \t\n\r\f]+")


def declared_encoding(data: bytes) -> str | None:
    """The encoding that a page says it has, if it is one of a byte or two a character that Python knows."""
    found = _CHARSET.search(data[:_LOOKED_AT])
    said = found[1].decode().lower() if found else "utf-8"
    try:
        return None if said.startswith("utf") or b"x".decode(said) != "x" else said
    except (LookupError, UnicodeError):
        return None


def html_text(page: str) -> tuple[str, list[Heading], str]:
    """A page's text, its headings and its title."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    reader.end_heading()
    text = "".join(reader.parts).rstrip()
    return text, reader.headings, " ".join("".join(reader.title).split())


class _Reader(HTMLParser):
    """Gathers the text; white space is put before what follows it, so that none piles up."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self.title: list[str] = []
        self._length = 0
        self._gap = ""
        self._silent: list[str] = []
        self._in_title = False
        self._pre = 0
        self._heading: tuple[int, int] | None = None
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent.append(tag)
        self._in_title = tag == "title" and not self._silent
        self._border(tag)
        if tag == "pre":
            self._pre += 1
        if tag in _HEADINGS:
            self.end_heading()
            self._heading = (-1, _HEADINGS[tag])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._border(tag)  # <svg/> opens nothing

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            while self._silent.pop() != tag:
                pass
        if tag == "title":
            self._in_title = False
        if tag == "pre" and self._pre:
            self._pre -= 1
        if tag in _HEADINGS:
            self.end_heading()
        self._border(tag)

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        if self._in_title:
            self.title.append(data)
            return
        text = data.replace("\r\n", "\n") if self._pre else _SPACES.sub(" ", data)
        if not self._pre:
            if text.startswith(" "):
                self._gap = self._gap or " "
            if text.endswith(" ") and text.strip(" "):
                self._put(text.strip(" "))
                self._gap = " "
                return
            text = text.strip(" ")
        if text:
            self._put(text)

    def end_heading(self) -> None:
        """A heading ends here, if one has begun."""
        if self._heading is not None and self._heading[0] >= 0:
            offset, level = self._heading
            if title := " ".join("".join(self._words).split()):
                self.headings.append(Heading(offset, level, title))
        self._heading = None
        self._words = []

    def _put(self, text: str) -> None:
        if self.parts:
            self._append(self._gap)
        if self._heading is not None:
            if self._heading[0] < 0:
                self._heading = (self._length, self._heading[1])
                self._words = []
            elif self._gap:
                self._words.append(" ")
            self._words.append(text)
        self._gap = ""
        self._append(text)

    def _append(self, text: str) -> None:
        self.parts.append(text)
        self._length += len(text)

    def _border(self, tag: str) -> None:
        gap = "\n\n" if tag in _PARAGRAPHS else "\n" if tag in _LINES else " " if tag in _CELLS else ""
        self._gap = max(self._gap, gap, key=_strength)


def _strength(gap: str) -> int:
    return 2 * gap.count("\n") + bool(gap)


_PAGE_BREAK = "\n\n"


def pdf_text(data: bytes) -> tuple[str, list[int], str]:
    """The text of all pages, where each page begins in it, and the title that the file says it has.

    Raises UnreadableError for a file that is damaged, needs a password or has no text.
    """
    try:
        import pypdf
    except ImportError:
        raise UnreadableError("PDF needs `pip install 'resizable_search[pdf]'`") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells every flaw of a file on stderr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader = pypdf.PdfReader(io.BytesIO(data))
            if reader.is_encrypted and not reader.decrypt(""):
                raise UnreadableError("it needs a password")
            pages = [cleaned(page.extract_text()) for page in reader.pages]
            title = cleaned(str((reader.metadata and reader.metadata.title) or "")).strip()
        except UnreadableError:
            raise
        # A damaged file fails anywhere in it, with whatever Python raises there.
        except Exception as error:
            words = " ".join(str(error).split())[:100]
            raise UnreadableError(f"it cannot be read as PDF ({words or type(error).__name__})") from None
    if not any(page.strip() for page in pages):
        raise UnreadableError(f"its pages ({len(pages):,}) have no text: they may be scanned")
    starts, length = [], 0
    for page in pages:
        starts.append(length)
        length += len(page) + len(_PAGE_BREAK)
    return _PAGE_BREAK.join(pages), starts, title


class FileFormat(StrEnum):
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


TABLES = frozenset({FileFormat.jsonl, FileFormat.csv, FileFormat.tsv, FileFormat.parquet})
"""Files whose records are documents; any other is one document."""

_BY_SUFFIX = {
    ".md": FileFormat.markdown,
    ".markdown": FileFormat.markdown,
    ".rst": FileFormat.rst,
    ".html": FileFormat.html,
    ".htm": FileFormat.html,
    ".xhtml": FileFormat.html,
    ".svg": FileFormat.html,  # has no text that is one, and is left out so
    ".pdf": FileFormat.pdf,
    ".jsonl": FileFormat.jsonl,
    ".ndjson": FileFormat.jsonl,
    ".csv": FileFormat.csv,
    ".tsv": FileFormat.tsv,
    ".parquet": FileFormat.parquet,
}
_PACKINGS = {packing.value: packing for packing in Packing if packing.value}


@dataclass(frozen=True, slots=True)
class Parsed:
    """The text of a file that is one document, its title ('' if it has none), and its shape."""

    text: str
    title: str
    outline: Outline


def format_of(name: str) -> tuple[FileFormat, Packing]:
    """How to read a file of this name; what has no known suffix is text, if it is text at all."""
    stem, suffix = os.path.splitext(name.lower())
    packing = _PACKINGS.get(suffix, Packing.none)
    if packing is not Packing.none:
        suffix = os.path.splitext(stem)[1]
    return _BY_SUFFIX.get(suffix, FileFormat.text), packing


def parse(path: str, form: FileFormat, packing: Packing) -> Parsed:
    """Read a file that is one document. Raises UnreadableError."""
    data = read_whole(path, packing)
    if form is FileFormat.pdf:
        text, pages, title = pdf_text(data)
        return Parsed(text, title, Outline(pages=pages))
    if form is FileFormat.html:
        text, headings, title = html_text(_page(data))
        return Parsed(text, title or _first(headings), Outline(headings))
    text = decode(data)
    headings, title = [], ""
    if form is FileFormat.markdown:
        headings, title = markdown(text)
    elif form is FileFormat.rst:
        headings = restructured(text)
    outline = Outline(headings, lined=True, markdown=form is FileFormat.markdown)
    return Parsed(text, title or _first(headings), outline)


def _first(headings: list[Heading]) -> str:
    return headings[0].title if headings else ""


def _page(data: bytes) -> str:
    """A page's characters: what they can be as UTF, they are; else what the page says of itself counts."""
    said = declared_encoding(data)
    if said is not None and not encoding_of(data, whole=True).startswith("utf"):
        return data.decode(said, "replace")
    return decode(data)
