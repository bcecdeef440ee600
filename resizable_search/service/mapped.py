"""Mapped files that are cut while they are read: the system would end the process, whoever else it serves.

Whatever reads a page of a mapped file that the file no longer has is sent SIGBUS. Here such a page
becomes one of zeros, so that the scan ends; the shelf then sees that the file was cut, and no answer is
made of it. Python cannot handle that signal (its handlers run when the instruction is over, which it never
is), so the handler is compiled by numba: it makes one system call and needs no interpreter.
"""

import ctypes
import mmap
import signal
import sys
from typing import Any

from resizable_search.engine.kernel_cache import LOADING

_WORDS_TO_ADDRESS = 2
"""Where siginfo_t has the address, in words of 8 bytes; before it are ints: signal, error, code."""
_NO_SUCH_PAGE = 2  # BUS_ADRERR
_SIGINFO, _RESTART = 0x4, 0x10000000
_DEFAULT = 0

_handler: Any = None


class _Action(ctypes.Structure):
    """sigaction of glibc and musl on Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * (128 // ctypes.sizeof(ctypes.c_ulong))),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def outlive_cuts() -> bool:
    """Let the process outlive mapped files that are cut; whether that is possible here (Linux, 64 bits)."""
    global _handler
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    try:
        with LOADING:
            _handler = _handler or _compiled()
    except (
        Exception
    ):  # of a numba without a compiler for this machine: the shelf's looks before a scan remain
        return False
    action = _Action(handler=_handler.address, flags=_SIGINFO | _RESTART)
    failed: int = ctypes.CDLL(None).sigaction(signal.SIGBUS, ctypes.byref(action), None)
    return failed == 0


def _compiled() -> Any:
    """The handler, as machine code: void (int signal, siginfo_t *about, void *context)."""
    from numba import cfunc, types

    map_pages = types.ExternalFunction(
        "mmap", types.intp(types.intp, types.intp, types.int32, types.int32, types.int32, types.intp)
    )
    set_handler = types.ExternalFunction("signal", types.intp(types.int32, types.intp))
    page, number = mmap.PAGESIZE, int(signal.SIGBUS)
    readable = mmap.PROT_READ
    fixed_zeros = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED

    def handle(_: Any, about: Any, __: Any) -> None:
        code = about[1] & 0xFFFFFFFF
        start = about[_WORDS_TO_ADDRESS] & -page
        if code != _NO_SUCH_PAGE or map_pages(start, page, readable, fixed_zeros, -1, 0) != start:
            set_handler(number, _DEFAULT)  # not to be mended: tried again, the instruction ends the process

    signature = types.void(types.int32, types.CPointer(types.int64), types.intp)
    return cfunc(signature)(handle)
