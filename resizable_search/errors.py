"""The errors: a tree below `RsearchError`.

Every message is one line and names the remedy, options and commands in backquotes by their Python names
(`restart`, `rate=60`); the command line shows them as flags. No message holds a secret.
"""

import copyreg
from collections.abc import Iterator
from typing import Any


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, the innermost last: clients do not always name the cause as such."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


class RsearchError(Exception):
    """Base of every error that rsearch raises on purpose: what happened, and what to do."""

    exit_code = 1
    resume = ""  # what a stopped build has saved, and how to resume it; '' if there is nothing to say

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}; {self.resume}" if self.resume else message

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process can raise it, whatever its constructor takes."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(RsearchError):
    """The request makes no sense whatever the index holds (a dimension of 0)."""

    exit_code = 2


class ConfigError(RsearchError):
    """A configuration file that cannot be read or makes no sense."""


class IndexNotFoundError(RsearchError):
    """No index of that name in the home."""


class DocumentNotFoundError(RsearchError):
    """No document of that id, or at that row, in the index."""


class IndexFormatError(RsearchError):
    """An index folder whose files are missing, damaged, foreign or of a newer format."""


class IndexBusyError(RsearchError):
    """Another process holds the build of this index."""


class EmbedderMismatchError(RsearchError):
    """Query vectors of one model, documents of another."""


class QueryError(RsearchError):
    """A query that cannot be embedded. `at` is its number in the batch, from 0."""

    def __init__(self, message: str, at: int = 0) -> None:
        super().__init__(message)
        self.at = at


class CorpusError(RsearchError):
    """The texts could not be read."""


class HubError(CorpusError):
    """The dataset hub is unreachable or does not have the dataset."""


class EmbedderError(RsearchError):
    """The texts could not be embedded."""


class CredentialsError(EmbedderError):
    """No credentials, or credentials that the service refuses (401, 403)."""


class NoCredentialsError(CredentialsError):
    """The user has given no credentials. `remedies` are ways to go on, the best one first."""

    def __init__(self, message: str, *remedies: str) -> None:
        *others, last = self.remedies = remedies
        super().__init__(f"{message}: {', '.join(others)}, or {last}")
        self.message = message


class QuotaError(EmbedderError):
    """The account's quota is used up (402)."""


class RefusedTextError(EmbedderError):
    """The service refuses a text of this request (400, 413, 422); a retry does not help."""


class NoEmbedderError(EmbedderError):
    """An index of vectors whose embedder nobody named: no text can be embedded for it."""


class QueryTimeoutError(EmbedderError):
    """A query's vector did not come while somebody waited for it."""


class ClusterError(EmbedderError):
    """A Ray cluster that cannot be reached, or whose workers cannot work."""


class ServiceError(EmbedderError):
    """The service failed; a retry may help, after `retry_after` seconds. `status`: of HTTP, or 0."""

    def __init__(self, message: str, *, retry_after: float | None = None, status: int = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status


class RateLimitedError(ServiceError):
    """The service wants fewer requests (429); waiting helps."""


class BadAnswerError(EmbedderError):
    """An answer that is not one finite vector of the right width for each text; asking `again` may help."""

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


class BuildStateError(RsearchError):
    """An unfinished build with other options, or a damaged one."""


class ShrinkError(BuildStateError):
    """An update that would delete more than half of an index; `action` says what, in words."""

    def __init__(self, action: str) -> None:
        super().__init__(f"this would {action}: nothing was changed; allow it with `shrink`")
        self.action = action


class BuildStoppedError(RsearchError):
    """The user stopped a build; the same command resumes it."""

    exit_code = 130


class StorageError(RsearchError):
    """The disk refused to write or read a file."""


class ExhaustedError(RsearchError):
    """The limit of memory or threads is reached."""


class OpenFilesError(StorageError):
    """The limit of open files is reached."""
