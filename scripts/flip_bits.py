"""That `verify` finds every flipped bit of an index, and `repair` mends every derived file.

    .venv/bin/python scripts/flip_bits.py [--flips 200] [--rows 3000] [--seed 0]

Builds an index of two parts with deleted rows, then flips one random bit in each of its files in turn
until there were so many flips; after each, looks whether `verify` names that file and no other, and for
a derived one whether `repair` brings back the very bytes. Exit 1 if one was missed.
"""

import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from _measure import clustered, parser_of, show, write_documents

from resizable_search.build.options import BuildOptions
from resizable_search.build.vectors import build_vectors
from resizable_search.errors import IndexFormatError
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import read_manifest
from resizable_search.store.repair import repair, verify
from resizable_search.store.verify import kind_of
from resizable_search.store.writer import delete_rows

NAME = "flipped"


def make(folder: Path, rows: int) -> Home:
    """An index of two parts, of which some rows are deleted."""
    home, vectors, documents = Home(folder / "home"), folder / "rows.npy", folder / "documents.jsonl"
    np.save(vectors, clustered(rows))
    write_documents(documents, rows)
    for limit in (2 * rows // 3, rows):
        build_vectors(vectors, home, BuildOptions(NAME, limit=limit), documents=documents)
    delete_rows(home.index(NAME), [1, rows - 1])
    return home


def damaged(home: Home) -> list[str]:
    """The files that `verify` names."""
    try:
        return [damage.file for damage in verify(NAME, home).damaged]
    except IndexFormatError:
        return [NAMES.manifest]


def main() -> int:
    """Flip, look and mend; 1 if a flip was missed, or a derived file not brought back."""
    parser = parser_of(__doc__)
    parser.add_argument("--flips", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, default=3000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    with tempfile.TemporaryDirectory() as temporary:
        home = make(Path(temporary), args.rows)
        folder = home.index(NAME)
        manifest = read_manifest(folder)
        files = [NAMES.manifest, *manifest.all_files()]
        for number in range(args.flips):
            file = files[number % len(files)]
            kind = "manifest" if file == NAMES.manifest else kind_of(file, manifest)[0]
            sound = (folder / file).read_bytes()
            data = bytearray(sound)
            bit = int(rng.integers(0, 8 * len(data)))
            data[bit // 8] ^= 1 << bit % 8
            (folder / file).write_bytes(data)
            counts[kind][0] += 1
            counts[kind][1] += damaged(home) == [file]
            if kind == "derived":
                repair(NAME, home)
                counts[kind][2] += (folder / file).read_bytes() == sound
            (folder / file).write_bytes(sound)
    rows = [
        (kind, *map(str, found[:2]), str(found[2]) if kind == "derived" else "–", "")
        for kind, found in counts.items()
    ]
    show(("file holds", "bits flipped", "found", "mended", ""), rows)
    missed = sum(flips - found for flips, found, _ in counts.values())
    unmended = counts["derived"][0] - counts["derived"][2]
    print(f"{missed} flips missed, {unmended} derived files not brought back")
    return int(bool(missed or unmended))


if __name__ == "__main__":
    raise SystemExit(main())
