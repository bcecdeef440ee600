"""The compiled kernels: compiled once, at the end of a build or by `rsearch warm`; only loaded by queries.

numba keeps them beside the package, or in the user's cache folder if that cannot be written; they hold
for one version of Python, numba and rsearch, and one kind of processor. A query that finds none takes
numpy. That it never compiles is made sure of by numba itself: a listener to its event "numba:compile"
(numba.core.event) breaks off what would become a compilation.
"""

import threading
from typing import TYPE_CHECKING, Any

from resizable_search.progress import SILENT, Progress

if TYPE_CHECKING:
    from resizable_search.scan.numba_engine import NumbaEngine

_lock = threading.Lock()
_loaded = False


class ColdKernelsError(Exception):
    """The kernels are not compiled for this machine, or cannot be used on it. Never leaves the package."""


def load_engine(threads: int) -> "NumbaEngine":
    """The compiled engine, if its kernels only have to be loaded. Raises ColdKernelsError."""
    global _loaded
    with _lock:
        if not _loaded:
            _each_kernel(_loading)
            _loaded = True
    from resizable_search.scan.numba_engine import NumbaEngine

    return NumbaEngine(threads)


def compile_kernels(progress: Progress = SILENT) -> int:
    """Compile and keep what is not compiled yet; returns how many kernels that were.

    Raises ColdKernelsError with the reason where numba cannot compile, or keep what it compiled.
    """
    global _loaded
    with _lock:
        if _loaded:
            return 0
        compiled = _each_kernel(_compiling, progress)
        _loaded = True
        return compiled


def _each_kernel(prepare: Any, progress: Progress = SILENT) -> int:
    try:
        from resizable_search.scan import kernels

        progress.stage("compiling", len(kernels.SIGNATURES), "kernels")
        done = 0
        for kernel, signature in kernels.SIGNATURES.items():
            done += prepare(kernel, signature)
            kernel.disable_compile()  # a call with other types would be a mistake of ours, not a new kernel
            progress.advance(1)
        return done
    except ColdKernelsError:
        raise
    except Exception as error:  # numba and LLVM fail in many ways; numpy serves in all of them
        raise ColdKernelsError(f"numba cannot be used here ({type(error).__name__}: {error})") from error


def _compiling(kernel: Any, signature: Any) -> int:
    kernel.compile(signature)
    return int(sum(kernel.stats.cache_misses.values()) > 0)


def _loading(kernel: Any, signature: Any) -> int:
    from numba.core import event

    class Refusing(event.Listener):  # type: ignore[misc]
        def on_start(self, event: Any) -> None:
            raise ColdKernelsError("the kernels are not compiled yet")

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Refusing()):
        kernel.compile(signature)
    return 0
