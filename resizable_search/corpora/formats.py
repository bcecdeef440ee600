"""What a file is, by its name, and the text, title and headings of a file that is one document."""

import io
import logging
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from resizable_search.corpora.chunking import Heading, Outline
from resizable_search.corpora.decoding import PACKINGS, SourceFile, UnreadableError, codec_of, is_utf
from resizable_search.corpora.tables import parse_line
from resizable_search.environment import install_command
from resizable_search.specs import FileFormat
from resizable_search.text import without_surrogates

_BY_SUFFIX: dict[str, FileFormat] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".rst": "rst",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".svg": "html",  # has no text, and is left out so
    ".pdf": "pdf",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


@dataclass(frozen=True, slots=True)
class FileText:
    """The text of a file that is one document, its title ('' if it has none), and its shape."""

    text: str
    title: str
    outline: Outline


SAMPLE = 100_000  # of a file's first bytes, or characters of its long lines, that are looked at
_BY_START: dict[bytes, FileFormat] = {b"PAR1": "parquet", b"%PDF-": "pdf"}
_ARRAY = re.compile(rb"[\xef\xbb\xbf\xfe\xff]{0,3}\s*\[\s*\{\s*[\"}]")  # perhaps behind a byte order mark


def format_of(name: str) -> tuple[FileFormat, str]:
    """How to read a file of this name. A file without a known suffix is text, if it is text at all."""
    stem, suffix = os.path.splitext(name.lower())
    packing = suffix if suffix in PACKINGS else ""
    if packing:
        suffix = os.path.splitext(stem)[1]
    return _BY_SUFFIX.get(suffix, "text"), packing


def format_within(start: bytes) -> FileFormat:
    """What a file with this beginning (of `SAMPLE` bytes) is, if its name does not say it."""
    for mark, form in _BY_START.items():
        if start.startswith(mark):
            return form
    if _ARRAY.match(start.replace(b"\0", b"")):  # it may be UTF-16
        return "json"
    # JSON lines have an object in the first line, and the beginning of one in the next.
    first, _, rest = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    is_lines = rest.lstrip().startswith(b"{") and not parse_line(1, first.decode("utf-8", "replace")).problem
    return "jsonl" if is_lines else "text"


def read_text(source: SourceFile, form: FileFormat, *, bare: bool = False) -> FileText:
    """Read a file that is one document; `bare`: without navigation and comments. Raises UnreadableError."""
    with source.open(whole=True) as file:
        data = file.read()
    headings: list[Heading] = []
    pages: list[int] = []
    title = ""
    if form == "pdf":
        text, pages, title = pdf_text(data)
    elif form == "html":
        page = _decode_page(source, data)
        text, headings, title = html_text(page, bare=bare)
        if bare and not text:  # all of the page is navigation
            text, headings, title = html_text(page)
    else:
        text = source.decode(data)
        if form == "markdown":
            text, headings, title = markdown_text(text, bare=bare)
        elif form == "rst":
            headings = rst_headings(text)
    outline = Outline(headings, pages, lined=form not in ("pdf", "html"), markdown=form == "markdown")
    return FileText(text, title or (headings[0].title if headings else ""), outline)


_LONG_LINE = 1000
_LOCKS = re.compile(r".+\.lock|package-lock\.json|npm-shrinkwrap\.json|pnpm-lock\.yaml|go\.sum")
_CODE = (".js", ".mjs", ".cjs", ".css", ".json", ".map")
_SVG = re.compile(r"\s*(?:<[?!][^>]*>\s*)*<svg\b")
_SOURCE_MAP = re.compile(r'\s*\{(?=.*"sources"\s*:).*"mappings"\s*:\s*"', re.DOTALL)
_GENERATED = re.compile(r"^[^\w\n]+(?:.*@generated\b|Code generated .* DO NOT EDIT\.$)", re.MULTILINE)
_GENERATED_CHARS = 1000
_DENSE = 12  # text for people has at least one space, or letter beyond ASCII, for so many characters


def machine_made(name: str, text: str) -> str:
    """What the text of a file is, if it is not for people: "minified", "a lock file", …; else ''."""
    base, form = os.path.basename(name).lower().removesuffix(".gz").removesuffix(".zst"), format_of(name)[0]
    if base.endswith(".svg") or (form == "text" and _SVG.match(text)):
        return "SVG"
    if form != "text":
        return ""
    if text.startswith("%!PS"):
        return "PostScript"
    if _LOCKS.fullmatch(base):
        return "a lock file"
    if _SOURCE_MAP.match(text):
        return "a source map"
    if _GENERATED.search(text[:_GENERATED_CHARS]):
        return "generated"
    long = "".join(line for line in text.split("\n") if len(line) > _LONG_LINE)
    # Whole paragraphs may be lines, too: they have spaces.
    sample = long[:SAMPLE]
    is_dense = base.endswith(_CODE) or len(re.findall(r"[^!-~]", sample)) * _DENSE < len(sample)
    return "minified" if 2 * len(long) > len(text) and is_dense else ""


_FRONT = re.compile(r"---[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|$)", re.DOTALL)
_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*`]+|</?\w[^>]*>")  # emphasis, code, links
_PICTURE = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=]{100,}")
_MAX_HEADING = 500  # characters of a heading that are looked at: its marks take time by the square of it
_OPENING = re.compile(r"(?<!`)(`+)(?!`)|<!--|<(script|style|nav)\b", re.IGNORECASE)  # code, or hidden
_LINK_WITHIN = re.compile(r"\[.*\]\(#(?:(?!\]\(#)[^)])*\)")
_ADORNED = re.compile(r"([!-/:-@\[-`{-~])\1+[ \t]*")


def markdown_text(text: str, *, bare: bool = False) -> tuple[str, list[Heading], str]:
    """The text of Markdown, its headings outside lists and quotations, and the title in its front matter."""
    from markdown_it import MarkdownIt

    if bare:
        text = _PICTURE.sub("", text)
    front = _FRONT.match(text)
    start = front.end() if front else 0
    title = _TITLE.search(front[0]) if front else None
    # Blocks are enough: parsing what is inside them takes most of the time.
    blocks = MarkdownIt("commonmark").disable(["inline"]).parse(text[start:])
    if bare:
        text = text[:start] + _without_hidden(text[start:], blocks)
    lines = _line_starts(text, start)
    headings = []
    for opening, inline in zip(blocks, blocks[1:], strict=False):
        if opening.type == "heading_open" and opening.level == 0 and opening.map:
            content = _shown(inline.content) if bare else inline.content
            words = " ".join(_MARKUP.sub(lambda match: match[1] or "", content[:_MAX_HEADING]).split())
            if words:
                headings.append(Heading(lines[opening.map[0]], int(opening.tag[1:]), words))
    return text, headings, _scalar(title[1]) if title else ""


def _scalar(value: str) -> str:
    """A text of YAML on its line, without quotes and the remark behind it; '' for a block below it."""
    if value[0] in "|>":
        return ""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].replace("''", "'") if value[0] == "'" else value[1:-1].replace('\\"', '"')
    return re.split(r"\s#", value)[0].strip("'\" \t")


def _without_hidden(text: str, blocks: Sequence[Any]) -> str:
    lines = text.split("\n")
    top = 0
    for number, block in enumerate(blocks):
        if block.type in ("html_block", "inline") and "<" in block.content:
            first, last = block.map
            lines[first:last] = _shown("\n".join(lines[first:last])).split("\n")
        elif block.type.endswith("list_open") and block.level == 0:
            top = number
        elif block.type.endswith("list_close") and block.level == 0:
            items = [one.content for one in blocks[top:number] if one.content]
            if items and all(map(_LINK_WITHIN.fullmatch, items)):
                first, last = blocks[top].map
                lines[first:last] = [""] * (last - first)
    return "\n".join(lines)


def _shown(text: str) -> str:
    """Markdown with its code, without comments, scripts and navigation, of which the line feeds stay."""
    parts: list[str] = []
    kept = place = 0
    unclosed: set[str] = set()  # looked for once: time grows with the text, not with its square
    while opening := _OPENING.search(text, place):
        ticks, tag = opening.groups()
        end = rf"(?<!`){ticks}(?!`)" if ticks else rf"</{tag.lower()}\s*>" if tag else "-->"
        place = opening.end()
        closing = None if end in unclosed else re.compile(end, re.IGNORECASE).search(text, place)
        if closing is None:
            unclosed.add(end)
            continue
        place = closing.end()
        if not ticks:
            parts += text[kept : opening.start()], "\n" * text.count("\n", opening.start(), place)
            kept = place
    return "".join((*parts, text[kept:]))


def rst_headings(text: str) -> list[Heading]:
    """The headings of reStructuredText: underlined lines, whose levels follow the order of adornments."""
    # Over docutils, which runs directives and lacks those of Sphinx.
    lines = text.split("\n")
    starts = _line_starts(text, 0)
    ranks: list[str] = []
    headings = []
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
                headings.append(Heading(starts[number - over], ranks.index(kind) + 1, title.strip()))
                number += 1
        number += 1
    return headings


def _line_starts(text: str, start: int) -> Sequence[int]:
    """The offset of each line from `start` on, and of the end."""
    return list(accumulate((len(line) + 1 for line in text[start:].split("\n")), initial=start))


_CHARSETS = (
    re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([^\s\"'>;/]+)", re.IGNORECASE),
    re.compile(rb"\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([^\"']+)"),
)  # Where a page declares its encoding. As in browsers, XML's declaration comes second
_CHARSET_BYTES = 4096
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_PARAGRAPHS = """
    address article aside blockquote body caption dl details div figure figcaption footer form header hr main
    nav ol p pre section summary table ul
"""
_GAPS = {
    **dict.fromkeys([*_HEADINGS, *_PARAGRAPHS.split()], "\n\n"),
    **dict.fromkeys(["br", "dd", "dt", "li", "option", "tr"], "\n"),
    **dict.fromkeys(["td", "th"], " "),
}  # what separates an element from the text around it
_SILENT = frozenset({"title", "script", "style", "template", "svg", "math"})
_ASIDE = frozenset({"nav", "footer", "noscript", "button", "select", "dialog"})
_ASIDE_ROLES = frozenset({"navigation", "search", "banner", "contentinfo", "menu"})
_SPACES = re.compile(r"[ \t\n\r\f]+")


def _decode_page(source: SourceFile, data: bytes) -> str:
    """The characters of a page, by the encoding that it declares unless it is UTF-8 all the same."""
    start = re.sub(rb"<!--.*?-->", b"", data[:_CHARSET_BYTES], flags=re.DOTALL)
    label = next((match[1] for pattern in _CHARSETS if (match := pattern.search(start))), b"utf-8")
    encoding = codec_of(label.decode("ascii", "replace")) or "utf-8"
    if encoding.startswith("utf") or (is_utf(data) and not data.isascii()):
        return source.decode(data)
    return data.decode(encoding, "replace")  # ASCII too: it may be iso-2022-jp


def html_text(page: str, *, bare: bool = False) -> tuple[str, list[Heading], str]:
    """A page's text by blocks, headings and title; `bare`: without navigation. Raises UnreadableError."""
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    # An empty page would have no root, and a NUL ends its head.
    root = etree.fromstring(b"<html>" + page.replace("\0", "").encode("utf-8", "replace"), parser)
    if any(error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.error_log):
        raise UnreadableError("its elements are nested too deeply")  # what follows would be lost
    text = _PageText()
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, node in walk:
        text.tag(node.tag, begins=event == "start")
        if event == "end":
            text.add(node.tail)
        elif node.tag in _SILENT or (bare and _is_aside(node)):
            walk.skip_subtree()
        else:
            text.add(node.text)
    return "".join(text.parts), text.headings, " ".join((root.findtext("head/title") or "").split())


def _is_aside(node: Any) -> bool:
    is_anchor = node.tag == "a" and "headerlink" in node.get("class", "")
    return node.tag in _ASIDE or node.get("role") in _ASIDE_ROLES or is_anchor


class _PageText:
    """Gathers the text of a page. White space is put before the text that follows, so that none piles up."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self._length = 0
        self._gap = ""
        self._pre = 0
        self._heading: tuple[int, int] | None = None  # parts before one that has begun, and its level

    def tag(self, tag: Any, *, begins: bool) -> None:
        self._gap = max(self._gap, _GAPS.get(tag, ""), key=["", " ", "\n", "\n\n"].index)
        if tag == "pre":
            self._pre += 1 if begins else -1
        if tag in _HEADINGS:
            if self._heading:
                first, level = self._heading
                if words := "".join(self.parts[first:]).lstrip():
                    self.headings.append(Heading(self._length - len(words), level, " ".join(words.split())))
            self._heading = (len(self.parts), int(tag[1])) if begins else None

    def add(self, text: str | None) -> None:
        text = (text or "").replace("\u00ad", "")  # soft hyphens: nobody sees them, or types them
        if self._pre:
            words, after = text.replace("\r\n", "\n"), ""
        else:
            spaced = _SPACES.sub(" ", text)
            words, after = spaced.strip(" "), " " if spaced.endswith(" ") else ""
            if spaced.startswith(" "):
                self._gap = self._gap or " "
        if words:
            for part in (self._gap if self.parts else "", words):
                self.parts.append(part)
                self._length += len(part)
            self._gap = after


_PAGE_BREAK = "\n\n"


def pdf_text(data: bytes) -> tuple[str, list[int], str]:
    """The text, the offset of each page in it, the title. Raises UnreadableError, and what pypdf raises."""
    try:
        import pypdf
    except ImportError:
        raise UnreadableError(f"PDF needs `{install_command('pdf')}`") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it reports every flaw of a file on stderr
    with warnings.catch_warnings(action="ignore"):
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableError("it needs a password")
        pages = [without_surrogates(page.extract_text()) for page in reader.pages]
        title = without_surrogates(str((reader.metadata and reader.metadata.title) or "")).strip()
    if not any(page.strip() for page in pages):
        raise UnreadableError(f"its pages ({len(pages):,}) have no text: they may be scanned")
    lengths = (len(page) + len(_PAGE_BREAK) for page in pages[:-1])
    return _PAGE_BREAK.join(pages), list(accumulate(lengths, initial=0)), title
