"""What one kind of build says of itself, and another says otherwise: its rows, their embedder, their width.

`building` does the rest, which is the same for all.
"""

import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from resizable_search.accounting import Account
from resizable_search.build_log import LoggedProgress
from resizable_search.build_options import BuildOptions, choose_dims
from resizable_search.build_report import BuildReport
from resizable_search.corpora.base import Corpus
from resizable_search.embedders.base import EmbedderSpec
from resizable_search.errors import RsearchError
from resizable_search.index.layout import Home
from resizable_search.index.manifest import Manifest, Source
from resizable_search.index.work import Work
from resizable_search.intake import Intake


def asked_of(spec: EmbedderSpec) -> dict[str, Any]:
    """What is asked of an embedder: its kind, its model, and prefixes, which make other vectors."""
    prefixes = {
        f"{side} prefix": spec.options[f"{side}_prefix"]
        for side in ("document", "query")
        if f"{side}_prefix" in spec.options
    }
    width = {"width": spec.width} if prefixes else {}
    return {"embedder": spec.kind, "model": spec.model, **prefixes, **width}


@dataclass(slots=True, kw_only=True)
class BuildKind(ABC):
    """What differs from one kind of build to another, and what a run of it is given."""

    verb: ClassVar[str]
    """What has been done with a row that is safe: 'embedded'."""
    corpus: Corpus
    home: Home
    options: BuildOptions
    progress: LoggedProgress
    stop: threading.Event
    stack: ExitStack
    base: Manifest | None = None
    added: int = 0
    account: Account = field(default_factory=Account)

    @property
    @abstractmethod
    def spec(self) -> EmbedderSpec:
        """The embedder of the rows; that of a fitted one is known once it has been filled."""

    @property
    @abstractmethod
    def asked(self) -> dict[str, Any]:
        """What is asked of the embedder, as `asked_of` has it; its model is None where fitting makes it."""

    @property
    def narrow(self) -> bool:
        """Whether the corpus decides how wide the rows are."""
        return False

    def check(self) -> None:
        """Make sure that the build can begin. Raises EmbedderError."""
        return

    @abstractmethod
    def intake(self, work: Work, start: Source) -> Intake:
        """What reads the corpus; `start` is where the index that is extended was left."""

    @abstractmethod
    def fill(self, work: Work, intake: Intake) -> None:
        """Bring every row that is still to come into `work`."""

    def follow(self, base: Manifest) -> BuildReport:
        """Bring the index that is there to what its corpus, a living one, holds now."""
        # Only a corpus that is living is followed, and the kinds whose corpora may be override this.
        raise NotImplementedError(f"{self.corpus.kind} is no corpus that changes")

    def is_hopeless(self, work: Work, error: RsearchError) -> bool:
        """Whether an unfinished build that ended so holds nothing to go on with."""
        return not (work.rows or work.count_incoming() or work.count_left_out())

    @property
    def folder(self) -> Path:
        """Where the index lies or will lie."""
        return self.home.index(self.options.name)

    @property
    def building(self) -> Path:
        """Where the unfinished build lies."""
        return self.home.building(self.options.name)

    @property
    def widest(self) -> int:
        """The most dimensions that the rows may have."""
        return self.spec.width

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimensions that are stored, ascending; before a narrow build has been filled, the most."""
        if self.base is not None:
            return self.base.dims
        return choose_dims(self.options.dims, self.widest, narrow=self.narrow)
