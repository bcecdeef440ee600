"""`rsearch query` and `similar` by a running service: the search is its, the output is ours.

Every problem makes the command search by itself, without a message.
"""

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from resizable_search.cli.options import SearchArguments, index_name
from resizable_search.cli.output import ServedIndex, note
from resizable_search.errors import RsearchError
from resizable_search.service import identity, socket_address
from resizable_search.store.layout import home_of
from resizable_search.system import THREADS_VARIABLE, thread_count

if TYPE_CHECKING:
    from resizable_search.search.results import Answer

SERVICE_VARIABLE = "RSEARCH_SERVICE"  # `off`: use no service
SILENT_SECONDS = 2.0  # how long a living service may send nothing


def search(
    text: str, options: SearchArguments, *, similar: bool = False
) -> "tuple[Answer, ServedIndex] | None":
    """The answer of a running service of the home, and its index; None: search without it."""
    home = home_of(options.home)
    is_off = os.environ.get(SERVICE_VARIABLE, "").strip().lower() in ("off", "0", "no", "false")
    if is_off or not os.path.lexists(home.socket):
        return None
    from resizable_search.search.results import Answer, Hit, Timings

    try:
        name = index_name(options.index, home)
        if "/" in name or "\\" in name:  # a folder: a service knows names
            return None
        any_threads = options.threads is None and not os.environ.get(THREADS_VARIABLE, "").strip()
        threads = None if any_threads else thread_count(options.threads)
        names = ("k", "dim", "rerank", "plan", "recall", "where", "group", "mode", "explain")
        request = {name: getattr(options, name) for name in names}
        request |= {"query": text, "index": name, "similar": similar}
        request["expects"] = identity(home.index(name), options.engine, threads)
        fields = json.loads(_post(home.socket, json.dumps(request).encode()))
        index = fields["served"]
        timings, hits = Timings(**fields["timings_ms"]), [Hit(**hit) for hit in fields["hits"]]
        query, of, k, plan = (fields[key] for key in ("query", "index", "k", "plan"))
        more = {name: fields[name] for name in ("remark", "missing") if name in fields}
        answer = Answer(query, of, k, plan, timings, hits, [], **more)
        about = index["rows"], index["full_dim"], tuple(index["columns"])
        served = ServedIndex(*about, list(fields.get("explain", ())))
    except (RsearchError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if options.explain:
        note(f"the running service (process {index['process']}) answered")
    return answer, served


def _post(path: Path, body: bytes) -> bytes:
    """The answer to a search, as JSON. Raises OSError, ValueError."""
    status = path.lstat()
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
        raise ValueError("not a socket of this user")
    import socket

    head = (  # by hand: `http.client` takes 50 ms to import
        "POST /api/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reply = bytearray()
    with socket.socket(socket.AF_UNIX) as connection, socket_address(path) as address:
        connection.settimeout(SILENT_SECONDS)
        connection.connect(address)
        connection.sendall(head.encode() + body)
        while part := connection.recv(1 << 16):
            reply += part
    start, _, content = bytes(reply).partition(b"\r\n\r\n")
    if start.split(b" ")[1:2] != [b"200"]:
        raise ValueError("no answer")
    return content
