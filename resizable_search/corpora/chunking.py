"""Long documents cut into chunks: documents of their own that name their document and their place in it.

A chunk holds whole sections while they fit, and ends before a heading that outranks the one it begins with. A
section that does not fit is split at the end of a paragraph, else of a sentence, else of a word, and these
pieces may overlap. The text stays as it is, without white space at the ends of chunks.

Tokens are counted by a rule (`_TOKEN`), because the model's vocabulary may be on another machine: 1.13 times
the count of nomic-embed-text on Wikipedia's English, and 0.97 times on source code.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import Any, NamedTuple

from resizable_search.corpora.base import Document
from resizable_search.errors import UsageError
from resizable_search.text import quoted

MARK = "#c"  # between a document's id and a chunk's number; unlike the suffix of a repeated id
HEADING_SEPARATOR = " › "
_TOKEN = re.compile(r"\s*([A-Za-z]{1,6}|\d{1,3}|[^\sA-Za-z\d])")  # with the space before it: that is faster
_WINDOW = 4  # chunks' worth of text that is split at once: the splitter's time grows with its square
_MOST_CONTEXT = 300  # characters of a title and headings that are embedded
_SIZE = re.compile(r"(\d{1,9})([tc]?)", re.ASCII)


class Heading(NamedTuple):
    """A heading: the offset of its line in the text, its level from 1, and its words."""

    offset: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Outline:
    """The shape of a text: its headings and the offsets of its pages, in order."""

    headings: Sequence[Heading] = ()
    pages: Sequence[int] = ()
    lined: bool = False  # lines of the text are those of its file
    markdown: bool = False  # the text is Markdown


PLAIN = Outline()


@dataclass(frozen=True)
class Chunking:
    """The size of a chunk, and the overlap of two pieces of a section. Raises UsageError."""

    size: int
    unit: str = "t"  # tokens, or c: characters
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"a chunk cannot have size {self.size}: give 1 or more")
        if not 0 <= self.overlap <= self.size // 2:
            raise UsageError(f"chunks of {self} cannot overlap by {self.overlap}: give 0 to {self.size // 2}")

    def __str__(self) -> str:
        return f"{self.size}{self.unit}"

    def documents(
        self,
        document: Document,
        outline: Outline = PLAIN,
        *,
        keeps_single: bool = False,  # if there is one chunk, it keeps the document's id
        lone_headings: bool = True,  # are chunks, too; else they are in the metadata of chunks below alone
    ) -> list[Document]:
        """The chunks of a document."""
        if not document.text.strip():
            return [document]
        spans = list(self.spans(document.text, outline))
        if not lone_headings:
            spans = _without_lone_headings(spans, document.text, outline.headings)
        offsets, paths = [heading.offset for heading in outline.headings], _paths(outline.headings)
        line, reached = 1, 0
        chunks = []
        for number, (start, stop) in enumerate(spans, 1):
            id_, metadata = document.id, dict(document.metadata)
            if len(spans) > 1 or not keeps_single:
                id_ += f"{MARK}{number}"
                metadata |= {"document": document.id, "chunk": number}
            if passed := bisect_right(offsets, start):
                metadata["heading"] = paths[passed - 1]
            if outline.lined:
                line += document.text.count("\n", reached, start)
                reached = start  # the next one may begin before this one's end, but not before its start
                metadata |= {"line": line, "line_end": line + document.text.count("\n", start, stop)}
            url = document.url
            if outline.pages:
                page, last = (bisect_right(outline.pages, at) for at in (start, stop - 1))
                metadata |= {"page": page, "page_end": last}
                url += f"#page={page}" if url else ""  # RFC 8118
            chunks.append(Document(id_, document.title, url, document.text[start:stop], metadata))
        return chunks

    def spans(self, text: str, outline: Outline = PLAIN) -> Iterator[tuple[int, int]]:
        """The offsets of each chunk's start and end, in order, without white space at the ends."""
        headings = [heading for heading in outline.headings if heading.offset < len(text)]  # it may be cut
        bounds = [0, *(heading.offset for heading in headings), len(text)]
        levels = [0, *(heading.level for heading in headings)]
        sections = [(a, b, level) for (a, b), level in zip(pairwise(bounds), levels, strict=True) if a < b]
        measure = count_tokens if self.unit == "t" else len
        sizes = [measure(text[a:b]) for a, b, _ in sections]
        first = 0
        while first < len(sections):
            start, _, level = sections[first]
            last, total = first, sizes[first]
            while last + 1 < len(sections) and total + sizes[last + 1] <= self.size:
                if sections[last + 1][2] < level:
                    break
                last += 1
                total += sizes[last]
            stop = sections[last][1]
            fits = total <= self.size
            for a, b in [(start, stop)] if fits else self._split(text, start, stop, outline.markdown):
                part = text[a:b]
                if part.strip():
                    yield a + len(part) - len(part.lstrip()), a + len(part.rstrip())
            first = last + 1

    def _split(self, text: str, start: int, stop: int, markdown: bool) -> Iterator[tuple[int, int]]:
        """Pieces of a section, one window after the other; the last piece of a window begins the next one."""
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

    def _after(self, text: str, start: int, count: int) -> int:
        if self.unit == "c":
            return start + count
        token = next(islice(_TOKEN.finditer(text, start), count, None), None)
        return len(text) if token is None else token.start(1)

    @cached_property
    def _splitters(self) -> list[Any]:
        """One for plain text, and one for Markdown."""
        from semantic_text_splitter import MarkdownSplitter, TextSplitter

        kinds: list[Any] = [TextSplitter, MarkdownSplitter]
        if self.unit == "c":
            return [kind(self.size, overlap=self.overlap) for kind in kinds]
        return [kind.from_callback(count_tokens, self.size, self.overlap) for kind in kinds]


def context_of(title: str, metadata: Mapping[str, Any]) -> str:
    """What is embedded before a text: its title and headings, and a blank line; '' if it has neither."""
    path = str(metadata.get("heading") or "")
    if path.partition(HEADING_SEPARATOR)[0] != title:
        path = HEADING_SEPARATOR.join(filter(None, (title, path)))
    return f"{path[:_MOST_CONTEXT]}\n\n" if path else ""


def chunking_of(chunk: str | None, overlap: int = 0) -> Chunking | None:
    """Chunks of `400t`, `400` (tokens) or `1600c` (characters); None: texts stay whole. Raises UsageError."""
    if chunk is None:
        if overlap:
            raise UsageError("`chunk_overlap` needs `chunk`: give the size of chunks, e.g. `chunk=400`")
        return None
    if (match := _SIZE.fullmatch(chunk.strip())) is None:
        problem = f"{quoted(chunk)} is not a chunk size: write 400 or 400t for tokens, 1600c for characters"
        raise UsageError(problem)
    return Chunking(int(match[1]), match[2] or "t", overlap)


def count_tokens(text: str) -> int:
    """The tokens of a text, by the rule of this module."""
    return len(_TOKEN.findall(text.rstrip()))


def _without_lone_headings(
    spans: list[tuple[int, int]], text: str, headings: Sequence[Heading]
) -> list[tuple[int, int]]:
    """The chunks but those that are one heading, where the chunk behind them is below that heading."""
    levels = {heading.offset: heading.level for heading in headings}
    kept = []
    for (start, stop), (following, _) in pairwise(spans):
        is_heading = start in levels and "\n" not in text[start:stop]
        if not is_heading or levels.get(following, levels[start] + 1) <= levels[start]:
            kept.append((start, stop))
    return [*kept, spans[-1]]


def _paths(headings: Sequence[Heading]) -> list[str]:
    """Each heading behind those above it."""
    path: list[Heading] = []
    paths = []
    for heading in headings:
        path = [above for above in path if above.level < heading.level] + [heading]
        paths.append(HEADING_SEPARATOR.join(each.title for each in path))
    return paths
