"""JSON lines that are piped in, as a corpus.

A pipe cannot be opened again, but its command can: a position is {"lines", "sha256"}, and a build goes
on when it is given the same lines again. Those that it has read are passed over, and must be the same.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from resizable_search.corpora.base import Block, Json
from resizable_search.corpora.columns import lacking
from resizable_search.corpora.files.tables import lines_of, parsed
from resizable_search.corpora.files.text import Step, TextCorpus
from resizable_search.errors import CorpusError

STDIN = "-"


class StdinCorpus(TextCorpus):
    """The records of a stream of JSON lines in UTF-8, which is read once. `options`: `TextCorpus`."""

    def __init__(self, stream: BinaryIO, **options: Any) -> None:
        super().__init__([STDIN], **options)
        self._stream = stream

    @property
    def label(self) -> str:
        """As in 'standard input'."""
        return "standard input"

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents behind `position`; only the first call has any.

        Raises CorpusError for a first record without a column that it must have, and where what was read
        before does not come again.
        """
        yield from self.in_blocks(self._steps(position))

    def _steps(self, position: Json | None) -> Iterator[Step]:
        known = None
        digest = hashlib.sha256()
        passed, expected = (0, "") if position is None else (position["lines"], position["sha256"])
        number = 0
        for number, line in lines_of(self._stream, encoding="utf-8-sig"):
            digest.update((line or "").encode("utf-8", "surrogateescape"))
            if number == passed and digest.hexdigest() != expected:
                raise self._changed(passed)
            if number <= passed or (line is not None and line.isspace()):
                continue
            record = parsed(number, line)
            if known is None and not record.problem:
                known = list(record.values)
                if position is None and (missing := self.columns.missing(known)):
                    raise CorpusError(
                        f"line {number:,} of standard input: {lacking(missing, known)}; name one of those"
                    )
            documents = self.of_record(record, f"line:{number}", {"line": number})
            yield documents, {"lines": number, "sha256": digest.hexdigest()}
        if number < passed:
            raise self._changed(passed)

    def _changed(self, passed: int) -> CorpusError:
        return CorpusError(
            "a build of standard input goes on when the same lines are piped in again, and the first "
            f"{passed:,} are not those that it has read: pipe them in, or begin again with --restart"
        )
