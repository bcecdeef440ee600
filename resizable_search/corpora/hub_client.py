"""The hub's clients, `datasets` and `huggingface_hub`: kept quiet, fast to fail and flat in memory.

Nothing here is imported before it is needed: `datasets` takes more than a second.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from resizable_search.corpora.hub_errors import no_config, one_line, some, told
from resizable_search.errors import HubError
from resizable_search.progress import Progress

_ROWS_AT_ONCE = 1000
_LIBRARIES = ("datasets", "huggingface_hub")


def find_commit(repo: str, revision: str | None) -> str:
    """The commit (40 hex digits) that `revision` of a dataset is (None: its main branch).

    This is the first contact: one request without retries and one time-out (HF_HUB_ETAG_TIMEOUT, 10 s),
    where opening a stream would take half a minute to notice that there is no hub. Raises HubError.
    """
    from huggingface_hub import HfApi, constants

    with told(repo, revision):
        api = HfApi()
        info = api.dataset_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        if info.gated:
            api.auth_check(repo, repo_type="dataset")
    return str(info.sha)


def patience() -> str:
    """How long the clients go on with a read that stalls or fails, in words."""
    from datasets import config
    from huggingface_hub import constants

    times, pause = config.STREAMING_READ_MAX_RETRIES, config.STREAMING_READ_RETRY_INTERVAL
    return (
        f"a read that stalls is given up after {constants.HF_HUB_DOWNLOAD_TIMEOUT} s, and one that fails "
        f"is repeated up to {times} times, {pause} s apart"
    )


class Source:
    """One configuration of a dataset at a commit, opened: its splits and columns are known."""

    def __init__(self, repo: str, config: str | None, sha: str) -> None:
        import datasets

        self._repo = repo
        self._name = f"{repo} {config}" if config else repo
        self._path = f"hf://datasets/{repo}"  # so that no local folder of that name is read instead
        with told(repo, sha), _without_bars():
            try:
                self._builder = datasets.load_dataset_builder(self._path, name=config, revision=sha)
            except ValueError:
                known = datasets.get_dataset_config_names(self._path, revision=sha)
                if config in known or (config is None and len(known) == 1):
                    raise
                raise HubError(no_config(repo, config, known)) from None

    def rows(self, split: str) -> int | None:
        """How many rows the dataset's card says there are."""
        splits = self._builder.info.splits
        return (splits[split].num_examples or None) if splits and split in splits else None

    def columns(self, split: str) -> list[str] | None:
        """The columns of a split, if that can be known without reading rows. Raises HubError."""
        self._check_split(split)
        with told(self._repo, None), _without_bars():
            if features := self._builder.as_streaming_dataset(split=split).features:
                return [str(name) for name in features]
            if (files := self.parquet_files(split)) is None:
                return None
            with open_parquet(files[0], self.token) as parquet:
                return [str(name) for name in parquet.schema_arrow.names]

    def stream(self, split: str, columns: Sequence[str]) -> Any:
        """The rows, of these columns that it has, as a `datasets.IterableDataset`. Raises HubError."""
        import datasets

        self._check_split(split)
        with told(self._repo, None), _without_bars():
            files = self.parquet_files(split)
            if files is None:
                rows = self._builder.as_streaming_dataset(split=split)
                return rows if rows.features is None else rows.select_columns(list(columns))
            # A list among the arguments is what the client takes for shards: the columns are none.
            arguments = {"files": files, "columns": tuple(columns), "token": self.token}
            return datasets.IterableDataset.from_generator(_parquet_rows, gen_kwargs=arguments)

    def parquet_files(self, split: str) -> list[str] | None:
        """The addresses of a split's Parquet files, in order; None if its files are of another kind."""
        from datasets.packaged_modules.parquet.parquet import Parquet

        is_parquet = isinstance(self._builder, Parquet)
        return list(self._builder.config.data_files[split]) if is_parquet else None

    @property
    def token(self) -> Any:
        """What opens the files of a private dataset."""
        return self._builder.token

    def _check_split(self, split: str) -> None:
        known = [str(name) for name in self._builder.config.data_files or {}]
        if known and split not in known:
            raise HubError(f"{self._name} has no split '{split}': choose one of {some(split, known)}")


def _parquet_rows(files: Sequence[str], columns: Sequence[str], token: Any) -> Iterator[dict[str, Any]]:
    """Those columns of the rows of Parquet files, read in the caller's thread, a thousand at a time.

    The client's own Parquet reader reads a whole shard ahead (0.6 to 0.9 GB of memory for one of 364 MB,
    measured), does not hear Ctrl-C while a read is retried, and may abort the interpreter at exit.
    """
    for file in files:
        with open_parquet(file, token) as parquet:
            for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=list(columns), use_threads=False):
                yield from batch.to_pylist()


@contextmanager
def open_parquet(file: str, token: Any) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile` of the hub's, of which no more is read than is asked for."""
    import pyarrow.parquet as pq
    from datasets import DownloadConfig
    from datasets.utils.file_utils import xopen  # the client's open, with its retries

    with xopen(file, "rb", download_config=DownloadConfig(token=token)) as stream:
        yield pq.ParquetFile(stream, pre_buffer=False)


@contextmanager
def quiet(progress: Progress) -> Iterator[None]:
    """Keep the clients' logs from stderr; what they say of retries becomes notes."""
    import datasets  # noqa: F401  (importing them is what sets their handlers)
    import huggingface_hub  # noqa: F401  (as above)

    # Handlers and filters are added and removed one by one, so that streams may overlap in any order.
    mute, notes = _Mute(), _RetryNotes(progress)
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    muted = [
        handler for logger in loggers for handler in logger.handlers if not isinstance(handler, _RetryNotes)
    ]
    for handler in muted:
        handler.addFilter(mute)
    for logger in loggers:
        logger.addHandler(notes)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(notes)
        for handler in muted:
            handler.removeFilter(mute)


class _Mute(logging.Filter):
    """Lets nothing through."""

    def filter(self, record: logging.LogRecord) -> bool:
        return False


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
            self._cause = one_line(cause.strip("'"))
        elif "etrying in" in message or "before retry" in message:
            self._progress.note(f"{self._cause}: {one_line(message)}")


@contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bars of the clients."""
    import datasets.utils
    import huggingface_hub.utils

    libraries: tuple[Any, ...] = (datasets.utils, huggingface_hub.utils)
    shown = [library for library in libraries if not library.are_progress_bars_disabled()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the environment may insist on bars, which they warn of
        for library in shown:
            library.disable_progress_bars()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bars()
