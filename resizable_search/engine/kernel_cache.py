"""Which engine runs a search: compiled kernels where they earn their loading, numpy elsewhere.

The compiled kernels: compiled once, at the end of a build or by `rsearch warm`; only loaded by queries.

numba keeps them beside the package, or in the user's cache folder if that cannot be written; they hold
for one version of Python, numba and rsearch, and one kind of processor. A query that finds none takes
numpy. That it never compiles is made sure of by numba itself: a listener to its event "numba:compile"
(numba.core.event) breaks off what would become a compilation.

numba notices a changed source only in the file of the function that it compiled, not in what that one
calls; and asking it takes an import of a third of a second. So a stamp beside the package (or in the
user's cache folder) says of which sources, and by which numba, the kernels were compiled.
"""

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from resizable_search.engine.base import Engine
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.errors import UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.system import thread_count

if TYPE_CHECKING:
    from resizable_search.engine.numba_engine import NumbaEngine


SOURCES = Path(__file__).parent / "kernels"

LOADING = threading.Lock()
"""Held by whoever has numba load or compile: begun in two threads at once, its own locks can deadlock."""

_loaded = False


class ColdKernelsError(Exception):
    """The kernels are not compiled for this machine, or cannot be used on it. Never leaves the package."""


def load_engine(threads: int) -> "NumbaEngine":
    """The compiled engine, if its kernels only have to be loaded. Raises ColdKernelsError."""
    global _loaded
    with LOADING:
        if not _loaded:
            if not are_compiled():
                raise ColdKernelsError("its kernels are not compiled yet")
            _each_kernel(_load, SILENT)
            _loaded = True
    from resizable_search.engine.numba_engine import NumbaEngine

    return NumbaEngine(threads)


def compile_kernels(progress: Progress = SILENT) -> int:
    """Compile and keep what is not compiled yet; returns how many kernels that were.

    Raises ColdKernelsError with the reason where numba cannot compile, or keep what it compiled.
    """
    global _loaded
    with LOADING:
        if _loaded:
            return 0
        if not are_compiled():
            _forget()
        compiled = _each_kernel(_compile, progress)
        _loaded = True
        _leave_stamp()
        return compiled


def warm_up(progress: Progress) -> None:
    """Compile the kernels, if they are not yet, so that no query has to; where that fails, say so."""
    if not are_compiled():
        try:
            compile_kernels(progress)
        except ColdKernelsError as error:
            progress.note(f"{error}; searches take numpy, which is slower")


def are_compiled() -> bool:
    """Whether the kernels were compiled from these sources, as far as can be told without numba."""
    for place in _stamps():
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(place.read_bytes())
            if found["of"] == _of() and any(Path(found["cache"]).glob("*.nbi")):
                return True
    return False


def _of() -> list[str]:
    digest = hashlib.sha256()
    for path in (
        *sorted(SOURCES.glob("*.py")),
        SOURCES.parent / "parts.py",
    ):  # which says how a table is laid out
        digest.update(path.read_bytes())
    return [digest.hexdigest(), version("numba"), sys.version]


def _stamps() -> Iterator[Path]:
    """Where the stamp may lie, the first that can be written first."""
    name = f"rsearch-kernels.{sys.implementation.cache_tag}.json"
    yield SOURCES / "__pycache__" / name
    from platformdirs import user_cache_path

    yield user_cache_path("rsearch") / name


def _leave_stamp() -> None:
    from resizable_search.engine import kernels

    text = json.dumps({"of": _of(), "cache": kernels.scan_int8.stats.cache_path})
    for place in _stamps():
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
            return


def _forget() -> None:
    """Delete kernels of other sources, which numba may take for these."""
    from resizable_search.engine import kernels

    for kernel in kernels.SIGNATURES:
        for path in Path(kernel.stats.cache_path).glob(f"*.{kernel.__name__}-*.{_tag()}*.nb?"):
            with suppress(OSError):
                path.unlink()


def _tag() -> str:
    """How numba marks the Python that a file in its cache is for."""
    return f"py{sys.version_info.major}{sys.version_info.minor}"


def _each_kernel(prepare: Any, progress: Progress) -> int:
    try:
        from resizable_search.engine import kernels

        progress.stage("compiling", len(kernels.SIGNATURES), "kernels")
        done = 0
        for kernel, signature in kernels.SIGNATURES.items():
            done += prepare(kernel, signature)
            progress.advance(1)
        for kernel in kernels.SIGNATURES:
            kernel.disable_compile()  # a call with other types would be a mistake of ours, not a new kernel
        return done
    except ColdKernelsError:
        raise
    except Exception as error:  # numba and LLVM fail in many ways; numpy serves in all of them
        raise ColdKernelsError(f"numba cannot be used here: {type(error).__name__}: {error}") from error


def _compile(kernel: Any, signature: Any) -> int:
    kernel.compile(signature)
    return int(sum(kernel.stats.cache_misses.values()) > 0)


def _load(kernel: Any, signature: Any) -> int:
    from numba.core import event

    class Refusing(event.Listener):  # type: ignore[misc]  # numba is untyped to mypy
        def on_start(self, event: Any) -> None:
            raise ColdKernelsError("its kernels are not compiled for this machine")

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Refusing()):
        kernel.compile(signature)
    return 0


EngineName = Literal["auto", "numpy", "numba"]
"""`auto`: numba once the work is worth loading its kernels, if they are compiled; else numpy."""

ENGINES: tuple[EngineName, ...] = get_args(EngineName)

WORTH_LOADING = 1_500_000_000
"""Numbers that numpy multiplies in the time that loading numba and its kernels takes, about 0.5 s.

So a process never takes more than twice the time of whichever engine would have been the better.
"""

COLD = (
    "the compiled kernels are not ready here ({}): numpy searches, more slowly; `rsearch warm` compiles them"
)


class Chooser:
    """Gives the engine for each search; safe from several threads at once. Raises UsageError.

    `threads` None: $RSEARCH_THREADS, else the cores that this process may use.
    """

    def __init__(self, engine: str = "auto", threads: int | None = None) -> None:
        if engine not in ENGINES:
            raise UsageError(f"there is no engine {engine!r}: choose one of {', '.join(ENGINES)}")
        self.threads = thread_count(threads)
        self.remark = ""
        """Why numba does not run although it was wanted, and what to do; '' if nothing is amiss."""
        self._engine: Engine = NumpyEngine()
        self._settled = engine == "numpy"
        self._insists = engine == "numba"
        self._work = 0
        self._lock = threading.Lock()

    def pick(self, work: int) -> Engine:
        """The engine for a search; `work` is how many numbers a float32 scan would multiply for it."""
        if self._settled:
            return self._engine
        with self._lock:
            self._work += work
            worth = self._work > WORTH_LOADING
        if worth or self._insists:
            self.warm()
        return self._engine

    def warm(self) -> str:
        """Load the compiled kernels now, so that no query has to; says which engine runs from here on."""
        with self._lock:
            if not self._settled:
                try:
                    self._engine = load_engine(self.threads)
                except ColdKernelsError as error:
                    self.remark = COLD.format(error)
                    if self._insists:
                        raise UsageError(f"{error}: compile them with `rsearch warm`, or use numpy") from None
                self._settled = True
        return self._engine.name
