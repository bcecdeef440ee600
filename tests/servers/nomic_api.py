"""A loopback Nomic API: answers the real `nomic` client like api-atlas.nomic.ai.

    with NomicServer() as api:
        ...  # run the client with ATLAS_API_PATH=api.url and the key nk-test

Texts of a file of recordings get the recorded vectors. Any other text gets a vector that depends on
its words and the task alone, so that texts which share words are close, in every prefix of the vector.
`api.spoil` makes requests fail, `api.latency` slows them, and `api.asked` and `api.answered` count how
often each text was sent and how often it was paid for.
From a shell: python -m tests.servers.nomic_api --port 8801
"""

import argparse
import functools
import json
import random
import re
import signal
import socket
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

KEY = "nk-test"
WIDTH = 768
MOST_TEXTS = 10
MODELS = ("nomic-embed-text-v1.5", "nomic-embed-text-v1")
TASKS = ("search_document", "search_query", "classification", "clustering")

WORD_ROWS = 1 << 16
MOST_WORDS = 1 << 20
"""How many words' rows are remembered."""
COMMON_WORDS = tuple(
    re.findall(
        r"\w+",
        """
        a about after all also an and any are as at be been before being between but by can could did do
        does during each first for from had has have he her him his how i if in into is it its many may more
        most much new no not of on one only or other our out over she so some such than that the their them
        then there these they this three through time to two under up used was we were what when where which
        while who will with would year years you
        """,
    )
)
COMMON_WEIGHT = 0.1
LEAD_WORDS = 16
LEAD_WEIGHT = 4
"""The first words of a text, its title or its subject, count so many times."""
TASK_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with a request to embed.

    `status` answers with that status and `body` ("{key}" in it stands for the key that was sent);
    `drop` closes the connection without an answer; `hang` keeps it open until `release`. The others
    spoil an answer of status 200, in its form ("html"), its rows or its model's name. `marker`
    limits the fault to requests with that in one of their texts; `location` is where a redirect leads.
    """

    kind: Literal[
        "status", "drop", "hang", "html", "too_few", "nan", "wrong_width", "other_model", "no_rows",
        "shuffled", "one_index", "zeros",
    ]  # fmt: skip
    status: int = 500
    body: str = '{"detail": "spoiled"}'
    retry_after: str | None = None
    marker: str = ""
    location: str | None = None


def status(
    code: int, *, body: str = '{"detail": "spoiled"}', retry_after: str | None = None, marker: str = ""
) -> Fault:
    """The fault of an answer with this status."""
    return Fault("status", code, body, retry_after, marker)


DROP = Fault("drop")
HANG = Fault("hang")
HTML = Fault("html")
TOO_FEW = Fault("too_few")
NAN = Fault("nan")
WRONG_WIDTH = Fault("wrong_width")
OTHER_MODEL = Fault("other_model")
NO_ROWS = Fault("no_rows")
SHUFFLED = Fault("shuffled")
ONE_INDEX = Fault("one_index")
ZEROS = Fault("zeros")


@dataclass(slots=True)
class _Planned:
    """A fault, once `after` requests have passed, for so many more (None: all), each with a probability."""

    fault: Fault
    left: int | None
    probability: float
    after: int = 0


class Vectors:
    """Vectors of any text, as the service would round them: float16, norm 1, mean 0."""

    def __init__(self) -> None:
        rng = np.random.default_rng(WIDTH)
        table = np.frombuffer(bytearray(rng.bytes(WORD_ROWS * WIDTH)), np.int8).reshape(WORD_ROWS, WIDTH)
        common = slice(0, len(COMMON_WORDS))
        table[common] = np.rint(table[common] * COMMON_WEIGHT)
        self._table = table
        # a query and a document of the same words are close, not equal
        scale = TASK_WEIGHT * np.linalg.norm(table[-1].astype(np.float32)) / np.sqrt(WIDTH)
        self._tasks = {task: scale * rng.standard_normal(WIDTH, np.float32) for task in TASKS}
        self._row_of = _Rows()

    def of(self, texts: Sequence[str], task: str) -> NDArray[np.float32]:
        """(n, 768) float32, float16-exact."""
        sums = np.empty((len(texts), WIDTH), np.float32)
        for i, text in enumerate(texts):
            words = text.split() or [text]
            lead = words[:LEAD_WORDS]
            sums[i] = self._sum(set(words))
            sums[i] += (LEAD_WEIGHT - 1) * self._sum(set(lead))
        sums += self._tasks[task]
        sums -= sums.mean(axis=1, keepdims=True)
        return rounded(sums)

    def _sum(self, words: Collection[str]) -> NDArray[Any]:
        rows = np.fromiter(map(self._row_of.__getitem__, words), np.intp, len(words))
        kind = np.int16 if len(rows) < 256 else np.int32  # the narrow sum is faster, and holds 255 bytes
        total: NDArray[Any] = np.add.reduce(self._table.take(rows, axis=0), axis=0, dtype=kind)
        return total


class _Rows(dict[str, int]):
    """The table's row of each word as it stands in a text: 'Trees,' has that of 'trees'.

    Common words have the first rows; any other is hashed to the rest.
    """

    common: ClassVar[dict[str, int]] = {word: row for row, word in enumerate(COMMON_WORDS)}

    def __missing__(self, word: str) -> int:
        plain = re.sub(r"^\W+|\W+$", "", word.lower()) or word
        spread = zlib.crc32(plain.encode(errors="surrogatepass")) % (WORD_ROWS - len(COMMON_WORDS))
        row = self.common.get(plain, len(COMMON_WORDS) + spread)
        if len(self) < MOST_WORDS:
            self[word] = row
        return row


def rounded(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of norm 1, with values that float16 holds exactly."""
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit.astype(np.float16).astype(np.float32)


@functools.cache
def _vectors() -> Vectors:
    return Vectors()


@functools.cache
def _pieces() -> NDArray[np.bytes_]:
    """How each float16 is written in JSON, by its bits, padded to one length: a row is then one lookup."""
    values = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32)
    return np.array([f"{value!s:>15}," for value in values], "S16")


def written(vectors: NDArray[np.float32]) -> list[bytes]:
    """Each row of float16-exact values as a JSON array."""
    bits = vectors.astype(np.float16).view(np.uint16)
    lines = _pieces()[bits]
    return [b"[%b]" % line.tobytes()[:-1] for line in lines]


class NomicServer:
    """Serves the API on a loopback port from the moment it is entered; the base of others like it.

    `keys` are the bearer tokens it takes; `latency` is seconds before each answer; `recordings` is a
    file of recorded requests and responses; `seed` makes faults with a probability repeatable.
    """

    path: ClassVar[str] = "/v1/embedding/text"
    """Where texts are posted to."""

    def __init__(
        self,
        *,
        keys: Collection[str] = (KEY,),
        latency: float = 0.0,
        recordings: Path | None = None,
        port: int = 0,
        seed: int = 0,
    ) -> None:
        self.latency = latency
        self.asked: Counter[str] = Counter()
        """How often each text arrived in a well-formed request, whatever came of it."""
        self.answered: Counter[str] = Counter()
        """How often each text was embedded: what the service bills."""
        self.requests = 0
        """Requests to embed, with those that were refused or spoiled."""
        self.user_requests = 0
        self.user_status = 200
        """What `GET /v1/user` is answered with, when the key is right."""
        self.arrived: list[float] = []
        """When each request to embed came, by time.monotonic."""
        self.first_fault: float | None = None
        """When the first fault befell a request, after the latency."""
        self.most_at_once = 0
        """The most requests to embed that were under way at the same time."""
        self.last_headers: dict[str, str] = {}
        self.last_request: dict[str, Any] = {}
        self._keys = {f"Bearer {key}" for key in keys}
        self._recorded = self._read_recordings(recordings) if recordings else {}
        self._planned: list[_Planned] = []
        self._chance = random.Random(seed)
        self._released = threading.Event()
        self._under_way = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "NomicServer":
        _vectors(), _pieces()  # made now: the first request is not to wait for them
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def under_way(self) -> int:
        """Requests to embed that have come and are not answered yet."""
        return self._under_way

    def spoil(self, fault: Fault, times: int | None = 1, *, probability: float = 1.0, after: int = 0) -> None:
        """Let a fault befall the next `times` requests (None: all to come), each with that probability.

        The first `after` requests that it might befall are spared.
        """
        with self._lock:
            self._planned.append(_Planned(fault, times, probability, after))

    def heal(self) -> None:
        """Forget all faults, and let go of what hangs."""
        with self._lock:
            self._planned.clear()
        self.release()

    def release(self) -> None:
        """Answer the requests that hang now."""
        with self._lock:
            self._released.set()
            self._released = threading.Event()

    def user(self, authorization: str) -> "_Answer":
        """Answer `GET /v1/user`."""
        with self._lock:
            self.user_requests += 1
        if authorization not in self._keys:
            return _refused(401, "Invalid authorization credentials")
        if self.user_status != 200:
            return _refused(self.user_status, "spoiled")
        return _Answer(200, b'{"sub": "user", "organizations": [], "default_organization": null}')

    def embedding(self, headers: dict[str, str], body: bytes) -> "_Answer | None":
        """Answer a request to embed; None: drop the connection."""
        with self._lock:
            self.requests += 1
            self.arrived.append(time.monotonic())
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            if self.latency:
                time.sleep(self.latency)
            return self._embedding(headers, body)
        finally:
            with self._lock:
                self._under_way -= 1

    def _embedding(self, headers: dict[str, str], body: bytes) -> "_Answer | None":
        if headers.get("Authorization") not in self._keys:
            return self._refused(401, "Invalid authorization credentials")
        try:
            request = json.loads(body)
            code, complaint = self._complaint(request)
        except ValueError:
            code, complaint = 422, "the body is not JSON"
        if complaint:
            return self._refused(code, complaint)
        texts = self._texts(request)
        with self._lock:
            self.last_headers, self.last_request = headers, request
            self.asked.update(texts)
            fault = self._fault(texts)
            if fault is not None and self.first_fault is None:
                self.first_fault = time.monotonic()
            released = self._released
        if fault is not None and fault.kind == "status":
            body = fault.body.replace("{key}", headers.get("Authorization", "").removeprefix("Bearer "))
            return _Answer(fault.status, body.encode(), fault.retry_after, location=fault.location)
        if fault is not None and fault.kind == "drop":
            return None
        if fault is not None and fault.kind == "hang":
            released.wait()
        with self._lock:
            self.answered.update(texts)
        if fault is not None and fault.kind == "html":
            return _Answer(200, b"<html><body>Sign in to the network</body></html>", kind="text/html")
        return self._rows(request, fault.kind if fault else "")

    def _fault(self, texts: list[str]) -> Fault | None:
        """The fault that befalls this request, if any; called under the lock."""
        for planned in self._planned:
            if planned.fault.marker and not any(planned.fault.marker in text for text in texts):
                continue
            if planned.after > 0:
                planned.after -= 1
                continue
            if planned.probability < 1 and self._chance.random() >= planned.probability:
                continue
            if planned.left is not None:
                planned.left -= 1
                if planned.left == 0:
                    self._planned.remove(planned)
            return planned.fault
        return None

    # -- what another API says in its own way

    def _refused(self, code: int, detail: str) -> "_Answer":
        return _refused(code, detail)

    def _complaint(self, request: Any) -> tuple[int, str]:
        """What the service finds wrong with a request, and the status for it; '' if nothing."""
        return 422, _complaint(request)

    def _texts(self, request: dict[str, Any]) -> list[str]:
        return list(request["texts"])

    def _read_recordings(self, path: Path) -> dict[tuple[str, str, str], dict[int, NDArray[np.float32]]]:
        return _read_recordings(path)

    def _rows(self, request: dict[str, Any], spoiled: str) -> "_Answer":
        texts, model = request["texts"], request["model"]
        task = request.get("task_type") or TASKS[0]
        width = request.get("dimensionality") or WIDTH
        full = _vectors().of(texts, task)
        cut = full if width == WIDTH else rounded(full[:, :width])
        for i, text in enumerate(texts):
            recorded = self._recorded.get((model, task, text), {})
            if width in recorded:
                cut[i] = recorded[width]
            elif WIDTH in recorded:
                cut[i] = rounded(recorded[WIDTH][None, :width])[0]
        rows = written(cut[:, :-1] if spoiled == "wrong_width" else cut)
        if spoiled == "too_few":
            rows.pop()
        if spoiled == "nan":
            rows[0] = b"[NaN" + rows[0][rows[0].index(b",") :]
        name = "another-model" if spoiled == "other_model" else model
        tokens = sum(text.count(" ") + 1 for text in texts)
        rest = {"model": name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        if spoiled == "no_rows":
            return _Answer(200, json.dumps(rest).encode())
        return _Answer(200, b'{"embeddings": [%b], %b' % (b", ".join(rows), json.dumps(rest).encode()[1:]))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    retry_after: str | None = None
    kind: str = "application/json"
    location: str | None = None


def _refused(code: int, detail: str) -> _Answer:
    return _Answer(code, json.dumps({"detail": detail}).encode())


def _complaint(request: Any) -> str:
    """What the service finds wrong with a request; '' if nothing."""
    if not isinstance(request, dict) or not isinstance(request.get("texts"), list):
        return "texts: field required"
    texts = request["texts"]
    if not 1 <= len(texts) <= MOST_TEXTS:
        return f"texts: between 1 and {MOST_TEXTS} are taken, not {len(texts)}"
    if not all(isinstance(text, str) and text for text in texts):
        return "texts: each must be a string that is not empty"
    width = request.get("dimensionality") or WIDTH
    if not isinstance(width, int) or not 1 <= width <= WIDTH:
        return f"dimensionality: between 1 and {WIDTH}"
    for name, known in (("model", MODELS), ("task_type", TASKS), ("long_text_mode", ("truncate", "mean"))):
        if (request.get(name) or known[0]) not in known:
            return f"{name}: one of {', '.join(known)}"
    return ""


def _read_recordings(path: Path) -> dict[tuple[str, str, str], dict[int, NDArray[np.float32]]]:
    """The recorded vectors of each (model, task, text), by their dimension."""
    recorded: dict[tuple[str, str, str], dict[int, NDArray[np.float32]]] = {}
    for pair in json.loads(path.read_text(encoding="utf-8")):
        asked = pair["request"]
        task = asked.get("task_type") or TASKS[0]
        for text, row in zip(asked["texts"], pair["response"]["embeddings"], strict=True):
            recorded.setdefault((asked["model"], task, text), {})[len(row)] = np.array(row, np.float32)
    return recorded


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the client opens a connection for each request

    def __init__(self, address: tuple[str, int], api: NomicServer) -> None:
        self.api = api
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may give up waiting
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: apart, they wait for a delayed acknowledgement
    disable_nagle_algorithm = True

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server looks for
        if self.path == "/v1/user":
            self._send(self.server.api.user(self.headers.get("Authorization", "")))
        else:
            self._send(_refused(404, "Not Found"))

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server looks for
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == self.server.api.path:
            self._send(self.server.api.embedding(dict(self.headers), body))
        else:
            self._send(_refused(404, "Not Found"))

    def _send(self, answer: _Answer | None) -> None:
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.retry_after is not None:
            self.send_header("Retry-After", answer.retry_after)
        if answer.location is not None:
            self.send_header("Location", answer.location)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    """Serve until interrupted; then say what was asked."""
    parser = argparse.ArgumentParser(description="A loopback Nomic API; its key is nk-test.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds before each answer")
    parser.add_argument("--recordings", type=Path, help="a file of recorded requests and responses to replay")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with NomicServer(port=args.port, latency=args.latency, recordings=args.recordings) as api:
        sys.stdout.write(f"{api.url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            twice = sum(1 for count in api.answered.values() if count > 1)
            sys.stderr.write(
                f"{api.requests} requests, {api.most_at_once} at once at most; "
                f"{len(api.answered)} texts embedded, {twice} of them more than once\n"
            )


if __name__ == "__main__":
    main()
