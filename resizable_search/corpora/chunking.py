"""Long documents cut into chunks: each a document of its own that names the one it is of, and the place.

A chunk holds whole sections while they fit, and never goes on past a heading that outranks the one it
begins with. A section that does not fit is split where a paragraph ends, else a sentence, else a word,
and these pieces may overlap. Text is taken as it is, less white space at its ends.

Tokens are counted by a rule, for the vocabulary of a model may be far away: up to six ASCII letters are
one, up to three digits, and any other character that is no space. Held against nomic-embed-text's own
vocabulary that is 1.13 times its count on Wikipedia's English, 0.97 times on source code.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, pairwise
from typing import Any, NamedTuple

from resizable_search.corpora.base import Document
from resizable_search.errors import UsageError
from resizable_search.text import quoted

MARK = "#c"
"""Between a document's id and a chunk's number: no suffix that a repeated id gets begins so."""
BETWEEN = " › "
"""Between the headings of a path."""
_TOKEN = re.compile(r"[A-Za-z]{1,6}|\d{1,3}|[^\sA-Za-z\d]")
_WINDOW = 4
"""Chunks' worth of text that is split at once: the splitter's time grows with the square of it."""
_SIZE = re.compile(r"(\d{1,9})([tc]?)", re.ASCII)


class Heading(NamedTuple):
    """A heading: where its line begins in the text, its level from 1, and its words."""

    offset: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a text's shape: headings and beginnings of pages by offset, in order.

    `lined`: lines of the text are those of its file. `markdown`: the text is Markdown.
    """

    headings: Sequence[Heading] = ()
    pages: Sequence[int] = ()
    lined: bool = False
    markdown: bool = False


PLAIN = Outline()


@dataclass(frozen=True)
class Chunking:
    """How long a chunk may be, and how much of it two pieces of a section share, in `unit`: t or c.

    Raises UsageError for sizes that make no sense.
    """

    size: int
    unit: str = "t"
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"a chunk of {self.size} holds nothing: give 1 or more")
        if not 0 <= self.overlap <= self.size // 2:
            raise UsageError(
                f"chunks of {self} cannot overlap by {self.overlap}: give 0 to {self.size // 2}, half of one"
            )

    def __str__(self) -> str:
        return f"{self.size}{self.unit}"

    @classmethod
    def parse(cls, text: str, overlap: int = 0) -> "Chunking":
        """Read `400t`, `400` (tokens) or `1600c` (characters). Raises UsageError."""
        found = _SIZE.fullmatch(text.strip())
        if found is None:
            raise UsageError(
                f"{quoted(text)} is no size of a chunk: write 400 or 400t for tokens, 1600c for characters"
            )
        return cls(int(found[1]), found[2] or "t", overlap)

    def documents(self, document: Document, outline: Outline = PLAIN) -> list[Document]:
        """The chunks of a document; a document without text is handed on as it is."""
        if not document.text.strip():
            return [document]
        place = _Places(document.text, outline)
        found = []
        for number, (start, stop) in enumerate(self.spans(document.text, outline), 1):
            metadata = {**document.metadata, "document": document.id, "chunk": number}
            metadata |= place.of(start, stop)
            url = document.url
            if url and "page" in metadata:
                url += f"#page={metadata['page']}"  # RFC 8118
            text = document.text[start:stop]
            found.append(Document(f"{document.id}{MARK}{number}", document.title, url, text, metadata))
        return found

    def spans(self, text: str, outline: Outline = PLAIN) -> Iterator[tuple[int, int]]:
        """Where each chunk of a text begins and ends, in order, without white space at the ends."""
        bounds = [0, *(heading.offset for heading in outline.headings), len(text)]
        levels = [0, *(heading.level for heading in outline.headings)]
        sections = [(a, b, level) for (a, b), level in zip(pairwise(bounds), levels, strict=True) if a < b]
        sizes = [self._measure(text[a:b]) for a, b, _ in sections]
        first = 0
        while first < len(sections):
            start, stop, level = sections[first]
            last, total = first, sizes[first]
            while last + 1 < len(sections) and total + sizes[last + 1] <= self.size:
                if sections[last + 1][2] < level:
                    break
                last += 1
                total += sizes[last]
            whole = total <= self.size
            stop = sections[last][1]
            for a, b in [(start, stop)] if whole else self._split(text, start, stop, outline.markdown):
                part = text[a:b]
                if part.strip():
                    yield a + len(part) - len(part.lstrip()), a + len(part.rstrip())
            first = last + 1

    def _split(self, text: str, start: int, stop: int, markdown: bool) -> Iterator[tuple[int, int]]:
        """Pieces of a section, a window at a time; the last piece of a window begins the next one."""
        splitter = self._splitters[markdown]
        while start < stop:
            window = text[start : min(stop, self._after(text, start, _WINDOW * self.size))]
            pieces = splitter.chunk_indices(window)
            following = start + len(window)
            if following < stop and len(pieces) > 1:
                following = start + pieces.pop()[0]
            for offset, piece in pieces:
                yield start + offset, start + offset + len(piece)
            start = following

    def _measure(self, text: str) -> int:
        return count_tokens(text) if self.unit == "t" else len(text)

    def _after(self, text: str, start: int, count: int) -> int:
        """Where the text is `count` of the unit further on."""
        if self.unit == "c":
            return start + count
        token = next(islice(_TOKEN.finditer(text, start), count, None), None)
        return len(text) if token is None else token.start()

    @cached_property
    def _splitters(self) -> tuple[Any, Any]:
        """For plain text, and for Markdown."""
        from semantic_text_splitter import MarkdownSplitter, TextSplitter

        kinds: list[Any] = [TextSplitter, MarkdownSplitter]
        if self.unit == "c":
            plain, markdown = (kind(self.size, overlap=self.overlap) for kind in kinds)
        else:
            plain, markdown = (kind.from_callback(count_tokens, self.size, self.overlap) for kind in kinds)
        return plain, markdown


def count_tokens(text: str) -> int:
    """How many tokens a text has, by the rule of this module."""
    return len(_TOKEN.findall(text))


@dataclass(slots=True)
class _Places:
    """Tells where in its document a chunk is; asked in the order of the text."""

    text: str
    outline: Outline
    offset: int = 0
    line: int = 1
    passed: int = 0
    path: list[Heading] = field(default_factory=list)

    def of(self, start: int, stop: int) -> dict[str, str | int]:
        """The metadata of a chunk: heading, lines and pages, as far as they are known."""
        found: dict[str, str | int] = {}
        headings = self.outline.headings
        while self.passed < len(headings) and headings[self.passed].offset <= start:
            heading = headings[self.passed]
            self.path = [h for h in self.path if h.level < heading.level] + [heading]
            self.passed += 1
        if self.path:
            found["heading"] = BETWEEN.join(heading.title for heading in self.path)
        if self.outline.lined:
            found |= {"line": self._line(start), "line_end": self._line(start) + self._lines(start, stop)}
        if self.outline.pages:
            first, last = (bisect_right(self.outline.pages, at) for at in (start, stop - 1))
            found |= {"page": first, "page_end": last}
        return found

    def _line(self, at: int) -> int:
        # A chunk may begin before the last one's end, but never before its beginning.
        self.line += self._lines(self.offset, at)
        self.offset = at
        return self.line

    def _lines(self, start: int, stop: int) -> int:
        return self.text.count("\n", start, stop)
