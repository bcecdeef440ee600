"""Small disks: file systems in memory, each of a size that can be changed. Needs the right to mount."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE = 4096


class Disk:
    """A mounted disk of so many KiB (and, if given, inodes)."""

    def __init__(self, folder: Path, kib: int, inodes: int | None = None) -> None:
        self.folder = folder
        options = f"size={kib}k,mode=777" + (f",nr_inodes={inodes}" if inodes else "")
        _run("mount", "-t", "tmpfs", "-o", options, "rsearch-test", folder)

    def grow(self, kib: int = 1 << 16, inodes: int = 10_000) -> None:
        """Make it larger."""
        self._remount(f"size={kib}k,nr_inodes={inodes}")

    def read_only(self) -> None:
        """Let nothing be written any more."""
        self._remount("ro")

    def writable(self) -> None:
        """Let it be written again."""
        self._remount("rw")

    def fill(self) -> None:
        """Leave no page of it free."""
        handle = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for size in (64 * PAGE, PAGE):
                while True:
                    os.write(handle, bytes(size))
        except OSError:
            pass
        finally:
            os.close(handle)
        free = os.statvfs(self.folder).f_bavail
        if free:
            return self.fill()
        return None

    def empty(self) -> None:
        """Free again what was filled."""
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def _remount(self, options: str) -> None:
        _run("mount", "-o", f"remount,{options}", self.folder)


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@contextmanager
def mounted(folder: Path, kib: int, inodes: int | None = None) -> Iterator[Disk]:
    """A disk in a folder that is made for it."""
    folder.mkdir(parents=True, exist_ok=True)
    disk = Disk(folder, kib, inodes)
    try:
        yield disk
    finally:
        # Lazily, since somebody who failed may still hold a file of it.
        _run("umount", "--lazy", folder)


@functools.cache
def cannot_mount() -> str:
    """Why no disk can be mounted here; '' if one can."""
    if not (shutil.which("mount") and shutil.which("umount") and os.path.isdir("/dev/shm")):
        return "there is no tmpfs to mount"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted(Path(folder), 64) as disk:
                disk.grow(128)
        except (subprocess.CalledProcessError, OSError):
            return (
                "mounting a small disk needs root: run scripts/drills/hostile.py, which has its own namespace"
            )
    return ""
