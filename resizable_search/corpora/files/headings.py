"""The headings of Markdown and reStructuredText, by where their lines begin."""

import re
from collections.abc import Sequence

from resizable_search.corpora.chunking import Heading

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
