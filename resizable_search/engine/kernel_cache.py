"""Compile, cache and load the kernels of the numba engine, and choose the engine of a search.

A query never compiles. A build of a large index compiles, a service, or a user by hand; without kernels
numpy searches. A child process compiles, so that an interruption ends it at once.

numba keeps the kernels in $NUMBA_CACHE_DIR, beside the package or in the user's cache folder; where it can
write none of these, a folder in the user's home of indexes is named to it. They hold for one version of
Python, numba and rsearch, and for one kind of processor. numba does not notice a changed source in what a
kernel calls, and importing it takes a third of a second. So a stamp records the sources and the numba that
the kernels were compiled from.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from resizable_search.engine.base import Engine
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.errors import UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.system import HOME_VARIABLE, thread_count

if TYPE_CHECKING:
    from resizable_search.engine.numba_engine import NumbaEngine

SOURCES = Path(__file__).parent / "kernels"

LOADING = threading.Lock()  # two threads that load kernels at once can deadlock in numba's own locks
# A fork waits for it: a child would never get the locks that a loading thread holds.
os.register_at_fork(before=LOADING.acquire, after_in_parent=LOADING.release, after_in_child=LOADING.release)

# Numbers that numpy multiplies in the 0.5 s that loading numba and its kernels takes: so no process takes
# more than twice the time of the better engine.
WORTH_LOADING = 1_500_000_000
WORTH_COMPILING = WORTH_LOADING // 100  # numbers of an index from which a hundred queries use numba
LOADING_AFTER = 0.1  # seconds from a first search to loading: a process of one has ended by then

COLD = "the compiled kernels are not ready here ({}): numpy searches, more slowly; `warm` compiles them"

_CHILD = "from resizable_search.engine.kernel_cache import compile_here; compile_here()"


class ColdKernelsError(Exception):
    """The kernels are not compiled for this machine, or cannot be used on it. Never leaves the package."""


def load_engine(threads: int) -> "NumbaEngine":
    """The numba engine, with kernels from the cache. Raises ColdKernelsError if they are not compiled."""
    with LOADING:
        _load_kernels()
    from resizable_search.engine.numba_engine import NumbaEngine

    return NumbaEngine(threads)


@cache
def _load_kernels() -> None:
    """Load the kernels from the cache. numba's event "numba:compile" says when it would compile one."""
    if not is_warm():
        raise ColdKernelsError("its kernels are not compiled yet")
    _name_a_folder()
    try:
        from numba.core import event

        from resizable_search.engine.kernels import SIGNATURES

        class Refusing(event.Listener):  # type: ignore[misc]  # numba is untyped to mypy
            def on_start(self, event: Any) -> None:
                raise ColdKernelsError("its kernels are not compiled for this machine")

            def on_end(self, event: Any) -> None:
                pass

        with event.install_listener("numba:compile", Refusing()):
            for kernel, signature in SIGNATURES.items():
                kernel.compile(signature)
        for kernel in SIGNATURES:
            kernel.disable_compile()  # a call with other types would be our mistake
    except ColdKernelsError:
        raise
    except Exception as error:  # numba and LLVM fail in many ways; numpy serves in all of them
        raise ColdKernelsError(_reason(error)) from error


def compile_kernels(progress: Progress = SILENT, stop: threading.Event | None = None) -> int:
    """Compile what the cache lacks, until `stop` is set. Returns how many, or raises ColdKernelsError."""
    with suppress(ColdKernelsError):
        load_engine(1)
        return 0
    compiled, nothing = 0, subprocess.DEVNULL
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    command = [sys.executable, "-P", "-c", _CHILD]
    pipe = subprocess.PIPE  # not buffered: the selector sees every line
    with subprocess.Popen(command, 0, stdin=nothing, stdout=pipe, stderr=nothing, env=env) as child:
        try:
            for number, line in enumerate(_lines(child, stop or threading.Event())):
                if not line.isdigit():
                    raise ColdKernelsError(line.decode())
                if number == 0:
                    progress.stage("compiling", int(line), "kernels")
                else:
                    compiled += int(line)
                    progress.advance(1)
        finally:
            child.kill()
    if not is_warm():
        raise ColdKernelsError("their compilation failed")
    return compiled


def compile_if_worth(numbers: int, progress: Progress, stop: threading.Event | None = None) -> None:
    """Compile the kernels if queries of an index of so many numbers would use them. Errors become notes."""
    if numbers >= WORTH_COMPILING and not is_warm():
        try:
            compile_kernels(progress, stop)
        except ColdKernelsError as error:
            progress.note(COLD.format(error))


def compile_here() -> None:
    """Compile the kernels in this process, the child of `compile_kernels`, and report on stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop

    def report(word: object) -> None:
        sys.stdout.write(f"{word}\n")
        sys.stdout.flush()

    _name_a_folder()
    try:
        from resizable_search.engine.kernels import SIGNATURES

        folder = Path(next(iter(SIGNATURES)).stats.cache_path)
        if not is_warm():  # numba may take kernels of other sources for these
            for path in folder.glob(f"*.py{sys.version_info.major}{sys.version_info.minor}*.nb?"):
                path.unlink()
        report(len(SIGNATURES))
        for kernel, signature in SIGNATURES.items():
            kernel.compile(signature)
            report(int(sum(kernel.stats.cache_misses.values()) > 0))
        _write_stamp(folder)
    except Exception as error:  # numba and LLVM fail in many ways
        report(_reason(error))


def is_warm() -> bool:
    """Whether the cache holds kernels of these sources, as far as the stamp tells without numba."""
    for path in _stamp_paths():
        with suppress(OSError, ValueError, KeyError, TypeError):
            stamp = json.loads(path.read_bytes())
            if stamp["of"] == _fingerprint() and any(Path(stamp["cache"]).glob("*.nbi")):
                return True
    return False


def _reason(error: Exception) -> str:
    """Why numba cannot be used, in one line."""
    if "no locator available" in str(error):
        return "its kernels can be kept nowhere: set NUMBA_CACHE_DIR to a folder you can write"
    return " ".join(f"numba cannot be used here: {type(error).__name__}: {error}".split())


def _name_a_folder() -> None:
    """Name our own folder to numba where it can keep kernels nowhere else."""
    *usual, own = (path.parent for path in _stamp_paths())
    if "NUMBA_CACHE_DIR" not in os.environ and not any(map(_can_write, usual)):
        os.environ["NUMBA_CACHE_DIR"] = str(own)


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _lines(child: "subprocess.Popen[bytes]", stop: threading.Event) -> Iterator[bytes]:
    """The lines that the child writes, until its end. Raises ColdKernelsError if `stop` is set."""
    assert child.stdout is not None
    with DefaultSelector() as selector:
        selector.register(child.stdout, EVENT_READ)
        while not stop.is_set():
            if selector.select(0.1):
                line = child.stdout.readline()
                if not line:
                    return
                yield line.rstrip(b"\n")
    raise ColdKernelsError("their compilation was stopped")


def _fingerprint() -> list[str]:
    """Of the sources, numba and Python that kernels are compiled from."""
    digest = hashlib.sha256()
    constants = (SOURCES.parent / f"{name}.py" for name in ("parts", "short_codes", "vectors"))
    for path in (*sorted(SOURCES.glob("*.py")), *constants):
        digest.update(path.read_bytes())
    return [digest.hexdigest(), version("numba"), sys.version]


def _stamp_paths() -> list[Path]:
    """Where the stamp may be: folders that nobody else may write, unlike /tmp."""
    from platformdirs import user_cache_path, user_data_path

    home = os.environ.get(HOME_VARIABLE)
    own = (Path(home) if home else user_data_path("rsearch")) / ".state" / "kernels"
    name = f"rsearch-kernels.{sys.implementation.cache_tag}.json"
    return [folder / name for folder in (SOURCES / "__pycache__", user_cache_path("rsearch"), own)]


def _write_stamp(folder: Path) -> None:
    text = json.dumps({"of": _fingerprint(), "cache": str(folder)})
    for path in _stamp_paths():
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return


ENGINES = ("auto", "numpy", "numba")  # auto: numba once the work is worth loading its compiled kernels


class Chooser:
    """Chooses the engine of each search; safe from several threads at once. Raises UsageError.

    `engine` may be one, which is used always. `threads` None: $RSEARCH_THREADS, else all usable cores.
    `numbers`: those in the index. `stays`: the process goes on after its first search, so the kernels are
    loaded beside it.
    """

    def __init__(
        self,
        engine: str | Engine = "auto",
        threads: int | None = None,
        *,
        numbers: int = WORTH_COMPILING,
        stays: bool = False,
    ) -> None:
        if isinstance(engine, str) and engine not in ENGINES:
            raise UsageError(f"there is no engine {engine!r}: choose one of {', '.join(ENGINES)}")
        self.threads = thread_count(threads)
        self.remark = ""  # why numba does not run although the index is worth it, and what to do
        self._engine: Engine = NumpyEngine() if isinstance(engine, str) else engine
        self._is_final = engine == "numpy" or not isinstance(engine, str)
        self._must_be_numba = engine == "numba"
        self._is_small = numbers < WORTH_COMPILING
        self._loads_beside = stays and engine == "auto"
        self._is_loading = False
        self._work = 0
        self._lock = threading.Lock()
        self._warming = threading.Lock()

    def pick(self, work: int) -> Engine:
        """The engine for a search; `work`: how many numbers its float32 scan would multiply."""
        if self._is_final:
            return self._engine
        with self._lock:
            self._work += work
            is_worth = self._work > WORTH_LOADING
            is_beside = self._loads_beside and work <= WORTH_LOADING
            starts = is_beside and not self._is_loading and (is_worth or not self._is_small)
            self._is_loading |= starts
        if starts:
            beside = threading.Timer(LOADING_AFTER, self.warm)
            beside.daemon = True  # a process that ends does not wait for it
            beside.start()
        elif self._must_be_numba or (is_worth and not is_beside):
            self.warm()
        return self._engine

    def warm(self) -> str:
        """Load the compiled kernels now. Returns the name of the engine from here on."""
        with self._warming:
            if not self._is_final:
                try:
                    self._engine = load_engine(self.threads)
                except ColdKernelsError as error:
                    if self._must_be_numba:
                        raise UsageError(f"{error}: compile them with `warm`, or use numpy") from None
                    if not self._is_small:
                        self.remark = COLD.format(error)
                self._is_final = True
        return self._engine.name
