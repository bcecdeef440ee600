"""What the hub's clients raise, told in one line with its remedy and without a secret."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from resizable_search.errors import CorpusError, HubError

_NAMES_LISTED = 8


def endpoint() -> str:
    """The address of the hub that the clients talk to."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def failures() -> tuple[type[Exception], ...]:
    """What the clients raise for a hub that does not answer as it should."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its name for whichever it uses

    return (OSError, ValueError, RuntimeError, httpx.HTTPError, httpx.InvalidURL, DatasetsError)


@contextmanager
def told(repo: str, revision: str | None) -> Iterator[None]:
    """Turn whatever the clients raise while a dataset is being opened into HubError."""
    try:
        yield
    except failures() as error:
        raise HubError(_what_and_remedy(error, repo, revision)) from error


def _what_and_remedy(error: Exception, repo: str, revision: str | None) -> str:
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its name for whichever it uses

    hub = f"the hub at {endpoint()}"
    for cause in _chain(error):
        match cause:
            case errors.OfflineModeIsEnabled():
                return f"{repo} cannot be read from {hub}: HF_HUB_OFFLINE is set; unset it to go online"
            case errors.GatedRepoError():
                return (
                    f"{repo} is a gated dataset: ask for access at {endpoint()}/datasets/{repo} "
                    "and set HF_TOKEN to a token of the account that has it"
                )
            case errors.RevisionNotFoundError():
                return (
                    f"{repo} on {hub} has no revision {revision}: check the revision, "
                    "or HF_ENDPOINT if that is a mirror"
                )
            case errors.EntryNotFoundError():
                continue  # the client probes for files that need not exist
            case errors.HfHubHTTPError() if cause.response.status_code in (401, 403, 404):
                return (
                    f"there is no dataset {repo} on {hub}, or it is private: check the name, "
                    "or set HF_TOKEN to a token that may read it"
                )
            case errors.HfHubHTTPError():
                return f"{hub} failed to answer ({reason(cause)}): try again later"
            case httpx.RequestError() | httpx.InvalidURL() | ConnectionError():
                return (
                    f"{hub} cannot be reached ({reason(cause)}): "
                    "check the network, and HF_ENDPOINT if it is set"
                )
    return f"{repo} on {hub} cannot be opened as a dataset ({reason(error)}): check that it holds data files"


def reason(error: BaseException) -> str:
    """The innermost cause that was named as such and says something, in one line."""
    from huggingface_hub.errors import HfHubHTTPError

    told = ""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HfHubHTTPError):
            return f"HTTP {cause.response.status_code}"
        told, cause = str(cause) or told, cause.__cause__
    return one_line(told) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, be it named as the cause or not: the clients hide the cause at times."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def one_line(message: str) -> str:
    """The first line, short, and without what may stand in an address's query or a token."""
    line = message.strip().partition("\n")[0].rstrip(" .:")
    return re.sub(r"\?\S+|\bhf_\w+", "…", line)[:200]


def no_config(repo: str, config: str | None, known: Sequence[str]) -> str:
    """What to say where a dataset has no such configuration, or several and none was named."""
    if config is None:
        return f"{repo} has several configurations: choose one of {some('', known)}"
    return f"{repo} has no configuration '{config}': choose one of {some(config, known)}"


def some(wanted: str, known: Sequence[str]) -> str:
    """A few names, those most like the wanted one first."""
    if len(known) <= _NAMES_LISTED:
        return ", ".join(known)
    nearest = difflib.get_close_matches(wanted, known, _NAMES_LISTED, 0.0)
    return f"{', '.join(nearest)} and {len(known) - len(nearest):,} others"


@contextmanager
def told_as_interruption(label: str, read: int) -> Iterator[None]:
    """Turn a failed read of the stream, after `read` rows, into HubError.

    What is safe, and which command goes on with it, a build says itself: only that knows.
    """
    try:
        yield
    except failures() as error:
        raise HubError(
            f"reading {label} broke off after {read:,} rows ({reason(error)}): "
            "try again once the hub can be reached"
        ) from error


def missing_column(label: str, missing: Sequence[str], columns: Iterable[str]) -> CorpusError:
    """What to raise when a dataset lacks a column that is asked for."""
    lacks = ", ".join(repr(column) for column in missing)
    return CorpusError(
        f"{label} has no column {lacks}: its columns are {', '.join(columns)}; say which to read"
    )
