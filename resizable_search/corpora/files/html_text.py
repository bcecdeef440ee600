"""The text of HTML: a paragraph a block, headings where they stand.

Over lxml and selectolax, which are compiled and build a tree: 50,000 nested tags take selectolax 8 s. The
standard library's parser goes forwards, and needs no more than that.
"""

import re
from html.parser import HTMLParser

from resizable_search.corpora.chunking import Heading

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
