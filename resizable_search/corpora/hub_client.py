"""The clients of the hub, `datasets` and `huggingface_hub`: quiet, fast to fail and flat in memory.

Nothing here imports them before it is needed: `datasets` takes more than a second.
"""

import difflib
import logging
import re
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from resizable_search.corpora.tables import rows_after, rows_of
from resizable_search.environment import unusable_setting
from resizable_search.errors import HubError, causes
from resizable_search.progress import Progress
from resizable_search.text import listed

_BATCH_ROWS = 1000


def endpoint() -> str:
    """The address of the hub."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def find_commit(repo: str, revision: str | None) -> str:
    """The commit (40 hex digits) of a dataset's `revision` (None: its main branch). Raises HubError.

    One request without retries, in 10 s: opening a stream takes half a minute to notice a missing hub.
    """
    from huggingface_hub import HfApi, constants

    with _open_errors(repo, revision):
        api = HfApi()
        info = api.dataset_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        if info.gated:
            api.auth_check(repo, repo_type="dataset")
    return str(info.sha)


def patience() -> str:
    """How long the clients repeat a read that stalls or fails, in words."""
    from datasets import config
    from huggingface_hub import constants

    times, pause = config.STREAMING_READ_MAX_RETRIES, config.STREAMING_READ_RETRY_INTERVAL
    return (
        f"a read that stalls is given up after {constants.HF_HUB_DOWNLOAD_TIMEOUT} s, and one that fails "
        f"is repeated up to {times} times, {pause} s apart"
    )


class HubSource:
    """One configuration of a dataset at a commit, opened: its splits and columns are known."""

    def __init__(self, repo: str, config: str | None, sha: str) -> None:
        import datasets

        self._repo = repo
        self._name = f"{repo} {config}" if config else repo
        path = f"hf://datasets/{repo}"  # so that no local folder of that name is read instead
        with _open_errors(repo, sha):
            try:
                self._builder = datasets.load_dataset_builder(path, name=config, revision=sha)
            except ValueError:
                known = datasets.get_dataset_config_names(path, revision=sha)
                if config in known or (config is None and len(known) == 1):
                    raise
                problem = f"no configuration '{config}'" if config else "several configurations"
                raise HubError(f"{repo} has {problem}: choose one of {_some(config, known)}") from None

    def rows(self, split: str) -> int | None:
        """The number of rows on the dataset's card."""
        splits = self._builder.info.splits
        return (splits[split].num_examples or None) if splits and split in splits else None

    def columns(self, split: str) -> list[str] | None:
        """The columns of a split, if they are known without reading rows. Raises HubError."""
        splits = [str(name) for name in self._builder.config.data_files or {}]
        if splits and split not in splits:
            raise HubError(f"{self._name} has no split '{split}': choose one of {_some(split, splits)}")
        with _open_errors(self._repo, None):
            if features := self._builder.as_streaming_dataset(split=split).features:
                return [str(name) for name in features]
            if (files := self.parquet_files(split)) is None:
                return None
            with self._open(files[0]) as parquet:
                return [str(name) for name in parquet.schema_arrow.names]

    def stream(self, split: str, columns: Sequence[str]) -> Any:
        """A `datasets.IterableDataset` with those of these columns that exist. Raises HubError."""
        with _open_errors(self._repo, None):
            rows = self._builder.as_streaming_dataset(split=split)
            return rows if rows.features is None else rows.select_columns(list(columns))

    def parquet_files(self, split: str) -> list[str] | None:
        """The addresses of a split's Parquet files, in order; None if its files are of another kind."""
        from datasets.packaged_modules.parquet.parquet import Parquet

        is_parquet = isinstance(self._builder, Parquet)
        return list(self._builder.config.data_files[split]) if is_parquet else None

    @contextmanager
    def _open(self, file: str) -> Iterator[Any]:
        """A `pyarrow.parquet.ParquetFile` on the hub, of which only what is asked for is read."""
        import pyarrow.parquet as pq
        from datasets import DownloadConfig
        from datasets.utils.file_utils import xopen  # the client's open, with its retries

        with xopen(file, "rb", download_config=DownloadConfig(token=self._builder.token)) as stream:
            yield pq.ParquetFile(stream, pre_buffer=False)

    def group_rows(self, files: Sequence[str]) -> list[list[int]]:
        """The rows of each row group of each Parquet file, from their footers."""
        counts = []
        for file in files:
            with self._open(file) as parquet:
                footer = parquet.metadata
                counts.append([footer.row_group(group).num_rows for group in range(footer.num_row_groups)])
        return counts

    def read_rows(
        self, file: str, group: int, numbers: Sequence[int], columns: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Rows of a row group by their numbers, in that order; no other rows are kept in memory."""
        rows: dict[int, dict[str, Any]] = {}
        first = 0
        with self._open(file) as parquet:
            # In this thread, so that Ctrl-C is heard.
            for batch in parquet.iter_batches(
                _BATCH_ROWS, row_groups=[group], columns=list(columns), use_threads=False
            ):
                for number in {*numbers} & {*range(first, first + batch.num_rows)}:
                    rows[number] = rows_of(batch.slice(number - first, 1))[0]
                first += batch.num_rows
        return [rows[number] for number in numbers]

    def rows_from(self, files: Sequence[str], skip: int, columns: Sequence[str]) -> Generator[dict[str, Any]]:
        """Those columns of the rows of Parquet files after the first `skip`, read in the caller's thread.

        The client's own Parquet reader reads a whole shard ahead (0.6 to 0.9 GB of memory for one of 364 MB,
        measured), does not hear Ctrl-C while a read is repeated, and may abort the interpreter at exit.
        """
        for file in files:
            with self._open(file) as parquet:
                yield from rows_after(parquet, skip, columns, use_threads=False)
                skip = max(0, skip - parquet.metadata.num_rows)


def _some(wanted: str | None, known: Sequence[str]) -> str:
    """A few names, those most like the wanted one first."""
    return listed(difflib.get_close_matches(wanted or "", known, len(known) or 1, 0.0), 8)


@contextmanager
def read_errors(label: str, read: int) -> Iterator[None]:
    """Turn a failed read of the stream, after `read` rows, into HubError."""
    try:
        yield
    except Exception as error:  # a file may bring the clients to raise anything
        from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its name for whichever it uses

        remedy = (
            "its files are damaged, or unlike each other; the hub has a copy of most datasets in Parquet, as "
            "`revision=refs/convert/parquet`"
        )
        if any(isinstance(cause, OSError | httpx.HTTPError) for cause in causes(error)):
            remedy = "try again once the hub can be reached"
        problem = f"reading {label} broke off after {read:,} rows ({_reason(error)}): {remedy}"
        raise HubError(problem) from error


@contextmanager
def _open_errors(repo: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a card may bring the clients to raise anything
        if isinstance(error, HubError):
            raise
        raise HubError(_problem_and_remedy(error, repo, revision)) from error


def _problem_and_remedy(error: Exception, repo: str, revision: str | None) -> str:
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its name for whichever it uses

    hub = f"the hub at {endpoint()}"
    for cause in causes(error):
        if mark := getattr(cause, "problem_mark", None):
            return (
                f"the card of {repo} (README.md) is no YAML in line {mark.line + 2}: choose a revision where "
                "it is, such as `revision=refs/convert/parquet`, which has no card"
            )
        match cause:
            case errors.OfflineModeIsEnabled():
                return f"{repo} cannot be read from {hub}: HF_HUB_OFFLINE is set; unset it to go online"
            case errors.GatedRepoError():
                return (
                    f"{repo} is a gated dataset: ask for access at {endpoint()}/datasets/{repo} "
                    "and set HF_TOKEN to a token of the account that has it"
                )
            case errors.EntryNotFoundError():
                continue  # the client probes for files that need not exist
            case errors.HfHubHTTPError() if cause.response.status_code in (401, 403, 404):
                at = f" at revision {revision}" if revision else ""
                return (
                    f"there is no dataset {repo}{at} on {hub}, or it is private: check what you named, and "
                    "HF_ENDPOINT, or set HF_TOKEN to a token that may read it"
                )
            case errors.HfHubHTTPError():
                return f"{hub} failed to answer ({_reason(cause)}): try again later"
            case httpx.RequestError() | httpx.InvalidURL() | ConnectionError():
                return unusable_setting(cause) or (
                    f"{hub} cannot be reached ({_reason(cause)}): "
                    "check the network, and HF_ENDPOINT if it is set"
                )
            case OSError(filename=str() as path):
                return (
                    f"the hub's client cannot use {path} ({cause.strerror}): name another folder for its "
                    "cache with HF_HOME, or with HF_DATASETS_CACHE and HF_HUB_CACHE if they are set"
                )
    return unusable_setting(error) or (
        f"{repo} on {hub} cannot be opened as a dataset ({_reason(error)}): check that it holds data files"
    )


def _reason(error: BaseException) -> str:
    """The innermost cause with a message, in one line."""
    from huggingface_hub.errors import HfHubHTTPError

    message = ""
    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError):
            return f"HTTP {cause.response.status_code}"
        message = str(cause) or message
    return _one_line(message) or type(error).__name__


def _one_line(message: str) -> str:
    """The first line, short, and without tokens and the query of an address."""
    line = message.strip().partition("\n")[0].rstrip(" .:")
    return re.sub(r"\?\S+|\bhf_\w+", "…", line)[:200]


@contextmanager
def quiet(progress: Progress) -> Iterator[None]:
    """Keep the clients' logs and progress bars from stderr; their retries become notes."""
    import datasets.utils
    import huggingface_hub.utils

    with warnings.catch_warnings(action="ignore"):  # the environment may insist on bars
        datasets.utils.disable_progress_bars()
        huggingface_hub.utils.disable_progress_bars()  # type: ignore[attr-defined]  # loaded lazily
    # Handlers and filters are added and removed one by one, so that streams may overlap in any order.
    notes, mute = _RetryNotes(progress), logging.Filter("of no logger")
    with ExitStack() as stack:
        for logger in map(logging.getLogger, ("datasets", "huggingface_hub")):
            for handler in logger.handlers:
                if type(handler) is not _RetryNotes:
                    handler.addFilter(mute)
                    stack.callback(handler.removeFilter, mute)
            logger.addHandler(notes)
            stack.callback(logger.removeHandler, notes)
        yield


class _RetryNotes(logging.Handler):
    """Reports the retries that the clients log, with their cause and without addresses."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress
        self._cause = "the hub does not answer"

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        cause, thrown, _ = message.partition(" thrown while requesting")
        if thrown:
            self._cause = _one_line(cause.strip("'"))
        elif "etrying in" in message or "before retry" in message:
            self._progress.note(f"{self._cause}: {_one_line(message)}")
