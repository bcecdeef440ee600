"""What corpora of people's own text share, wherever it comes from: columns, cuts, chunks and blocks."""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from resizable_search.corpora.base import BLOCK_SIZE, Block, Corpus, CorpusSpec, Document, Json
from resizable_search.corpora.chunking import PLAIN, Chunking, Outline
from resizable_search.corpora.columns import FIELDS, Columns
from resizable_search.corpora.files.tables import Record
from resizable_search.errors import UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.wording import counted

DEFAULT_CHARS = 1200
"""Characters of a text that are kept where it is not cut into chunks."""
BLOCK_CHARS = 8 << 20
"""About so many characters are read at once."""
_EXAMPLE_WORDS = 6

Step = tuple[list[Document], Json]
"""The documents of a file or a record, and the position behind them."""


class TextCorpus(Corpus):
    """Texts of the user's. `TextCorpus` of a spec's options is that corpus again.

    `text_column` and its like say which columns of a table hold what, and `metadata` which more are kept
    (`Columns`); `chars` cuts each text to its first characters (None: no cut); `chunk`, such as '400t',
    cuts what is left into documents of their own, which may share `chunk_overlap` (`Chunking`).
    Raises UsageError for options that make no sense.
    """

    kind = "files"
    example = "what you are looking for"

    def __init__(
        self,
        paths: Sequence[str],
        *,
        text_column: str | None = None,
        id_column: str | None = None,
        title_column: str | None = None,
        url_column: str | None = None,
        metadata: Sequence[str] = (),
        chars: int | None = DEFAULT_CHARS,
        chunk: str | None = None,
        chunk_overlap: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        if chars is not None and chars < 1:
            raise UsageError(f"texts cannot be cut to {chars} characters: give 1 or more")
        self.paths = list(paths)
        self.columns = Columns(text_column, id_column, title_column, url_column, tuple(metadata))
        self.chars = chars
        self.chunking = None if chunk is None else Chunking.parse(chunk, chunk_overlap)
        self.progress = progress
        self._cut = 0

    def spec(self) -> CorpusSpec:
        """The paths from the root on, and the options."""
        chunking = self.chunking
        return CorpusSpec(
            self.kind,
            {
                "paths": self.paths,
                **{f"{field}_column": getattr(self.columns, field) for field in FIELDS},
                "metadata": list(self.columns.metadata),
                "chars": self.chars,
                "chunk": None if chunking is None else str(chunking),
                "chunk_overlap": 0 if chunking is None else chunking.overlap,
            },
        )

    @property
    @abstractmethod
    def label(self) -> str:
        """What a person calls it."""

    @property
    def is_living(self) -> bool:
        """People go on writing: an index follows."""
        return True

    def of_record(
        self, record: Record, id_: str, place: Mapping[str, str | int], url: str = ""
    ) -> list[Document]:
        """The documents of a record of a table; `id_` and `url` where it has none of its own."""
        if record.problem:
            return [Document(id_, "", "", "", problem=record.problem)]
        document = self.columns.document(record.values, id_, place)
        return self.finished(document if document.url else replace(document, url=url))

    def finished(self, document: Document, outline: Outline = PLAIN) -> list[Document]:
        """A document as it is handed out: cut, and in chunks."""
        if self.chars is not None and len(document.text) > self.chars:
            self._cut += 1
            document = replace(document, text=document.text[: self.chars])
        return [document] if self.chunking is None else self.chunking.documents(document, outline)

    def in_blocks(self, steps: Iterator[Step]) -> Iterator[Block]:
        """Gather steps into blocks of bounded size; tells at the end how many texts were cut."""
        held: list[Document] = []
        chars, behind = 0, None
        for documents, behind in steps:
            held += documents
            chars += sum(len(document.text) for document in documents)
            if len(held) >= BLOCK_SIZE or chars >= BLOCK_CHARS:
                self._choose_example(held)
                yield Block(held, behind)
                held, chars = [], 0
        if held:
            self._choose_example(held)
            yield Block(held, behind)
        if self._cut and self.chunking is None:
            are = "is" if self._cut == 1 else "are"
            self.progress.note(
                f"{counted(self._cut, 'text')} {are} longer than {self.chars:,} characters, and only the "
                "beginning is searched: --chunk 400 takes it all, in chunks"
            )

    def _choose_example(self, documents: Sequence[Document]) -> None:
        if self.example is TextCorpus.example:
            for document in documents:
                title, text = (re.findall(r"\w+", words[:200]) for words in (document.title, document.text))
                if words := title if len(title) > 2 else text:
                    self.example = " ".join(words[:_EXAMPLE_WORDS])
                    return
