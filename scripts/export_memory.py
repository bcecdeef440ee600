"""That exporting holds memory flat: what `rsearch export` takes at each format, of few rows and of many.

    .venv/bin/python scripts/export_memory.py [--rows 100000,300000] [--dim 256] [--formats usearch]

Adopts random rows with a text of some 1,200 characters each, deletes a few so that rows lie in no one
file, and exports them, each in a process of its own. Prints the peak of its anonymous memory (RssAnon of
/proc, every 20 ms: mapped files apart), seconds, and the size. Peaks of most and fewest rows may differ by
less than half of the bytes that their rows, 4 a number, differ by; of datasets, whose reader keeps much of a
shard of 500 MB while it reads it, that is by what a shard has if that is more. With fewer rows than these
the exact scan does not load its kernels, which are 40 MB. usearch takes minutes for its graph: name it.
Linux only.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy as np
from _measure import machine, parser_of, show, write_documents
from _processes import Watched, watch

FORMATS = "parquet,datasets,faiss-flat,faiss-pq"
SHARD_MB = 500
RSEARCH = str(Path(sysconfig.get_path("scripts")) / "rsearch")


def make_index(rows: int, dim: int, folder: Path) -> None:
    """Adopt so many clustered rows, which neighbours may be found among, under the number as a name."""
    vectors, documents = folder / f"{rows}.npy", folder / f"{rows}.jsonl"
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, dim), np.float32)
    made = np.lib.format.open_memmap(vectors, "w+", np.float32, (rows, dim))
    for start in range(0, rows, 10_000):
        some = made[start : start + 10_000]
        some[:] = centres[rng.integers(0, 1000, len(some))]
        some += rng.standard_normal((len(some), 16), np.float32) @ rng.standard_normal((16, dim), np.float32)
    del made
    write_documents(documents, rows)
    build = [RSEARCH, "build", "vectors", vectors, "--documents", documents, "--name", f"made{rows}"]
    subprocess.run([*map(str, build), "--dims", str(dim)], check=True, capture_output=True)
    vectors.unlink()
    documents.unlink()
    where = ["--where", "id LIKE '%77'"]
    subprocess.run([RSEARCH, "delete", f"made{rows}", *where, "--yes"], check=True, capture_output=True)


def measured(rows: int, form: str, dest: Path) -> tuple[Watched, str]:
    """Export the index; what the process took, and what it says of its check."""
    begin = time.perf_counter()
    words = [RSEARCH, "export", f"made{rows}", str(dest), "--format", form]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        took = watch(process, begin)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with exit code {process.returncode}")
    return took, said.splitlines()[-1].partition(": ")[2]


def main() -> int:
    """Measure and print; 1 if memory grows with the rows."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", default="100000,300000", help="numbers of rows (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=256, help="dimensions (default: %(default)s)")
    parser.add_argument("--formats", default=FORMATS, help="formats (default: %(default)s)")
    args = parser.parse_args()
    sizes = sorted(int(word) for word in args.rows.split(","))
    print(machine())
    table, held = [], True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["RSEARCH_HOME"] = str(folder / "home")
        for rows in sizes:
            make_index(rows, args.dim, folder)
        for form in args.formats.split(","):
            peaks = []
            for rows in sizes:
                dest = folder / f"{form}-{rows}"
                took, said = measured(rows, form, dest)
                files = [path for path in (dest, *dest.rglob("*")) if path.is_file()]
                megabytes = sum(path.stat().st_size for path in files) / 1e6
                peaks.append(took.peak_anonymous_mb)
                numbers = (f"{took.peak_anonymous_mb:.0f}", f"{took.seconds:.1f}", f"{megabytes:.0f}")
                table.append((f"{form} {rows:,}", *numbers, said))
            most = (sizes[-1] - sizes[0]) * args.dim * 4 / 1e6 / 2
            most = max(most, SHARD_MB) if form == "datasets" else most
            held = held and peaks[-1] - peaks[0] < most
    print()
    show(("export", "peak RssAnon MB", "s", "MB", "its check"), table)
    print(f"memory: {'ok' if held else 'MISSED'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
