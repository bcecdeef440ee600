"""Watch the memory of a process that was started. Linux only."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.02


@dataclass(slots=True)
class Watched:
    """What a process took: seconds, CPU seconds, and peaks of its memory in MB.

    `peak_anonymous_mb` leaves mapped files out, `peak_mb` has them.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_anonymous_mb: float = 0.0
    peak_mb: float = 0.0


def watch(process: "subprocess.Popen[str]", begin: float) -> Watched:
    """Follow a process that was started at `begin` (perf_counter) until it ends; sets its return code."""
    found = Watched()
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        anonymous, whole = memory_mb(process.pid)
        found.peak_anonymous_mb = max(found.peak_anonymous_mb, anonymous)
        found.peak_mb = max(found.peak_mb, whole)
        time.sleep(SAMPLE_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    found.seconds = time.perf_counter() - begin
    found.cpu_seconds = usage.ru_utime + usage.ru_stime
    return found


def memory_mb(pid: int) -> tuple[float, float]:
    """RssAnon and VmRSS of a process in MB; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    anonymous, whole = (int(lines.get(name, "0 kB").split()[0]) for name in ("RssAnon", "VmRSS"))
    return anonymous * 1024 / 1e6, whole * 1024 / 1e6
