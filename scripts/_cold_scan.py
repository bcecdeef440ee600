"""One scan of an index whose files are not in memory, in a process of its own: no map from before is left.

    python scripts/_cold_scan.py COLD_INDEX OTHER_INDEX PLAN QUERIES.npy

Asks the other index first, so that code and threads are ready, then drops the files of the cold one and
times one query. Prints JSON: the seconds, and by file the bytes of it that are in memory afterwards.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from _reads import drop

from resizable_search.evaluate.timing import resident
from resizable_search.search.index import open_index


def main() -> None:
    """Measure once, and print."""
    cold, other, plan, query_file = sys.argv[1:]
    queries = np.load(query_file)
    with open_index(Path(other)) as index:
        index.warm()
        for query in queries[:3]:
            index.scan(query[None], plan=plan)
    folder = Path(cold)
    files = sorted(folder.rglob("*.npy"))
    with open_index(folder) as index:
        index.warm()
        drop(files)  # opening reads no more than headers
        begin = time.perf_counter()
        index.scan(queries[:1], plan=plan)
        seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "read": {str(path): resident(path) for path in files}}))


if __name__ == "__main__":
    main()
