"""A loopback endpoint that speaks `POST /v1/embeddings`, in the form that OpenAI, Ollama and others share.

    with OpenAIServer() as api:
        ...  # rsearch build … --embedder openai --base-url {api.base_url} --model nomic-embed-text

Vectors, counters and faults are those of `nomic_api`. Recorded texts (a line of JSON each: model, text,
embedding) get their recorded vectors; any other, one of the model's width that depends on its words.
From a shell: python -m tests.servers.openai_api --port 8802
"""

import argparse
import base64
import json
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tests.servers import nomic_api
from tests.servers.nomic_api import TASKS, WIDTH, NomicServer, _Answer, rounded

KEY = "sk-test-0123456789"
MODELS: Mapping[str, int] = {
    "nomic-embed-text": 768,
    "nomic-embed-text:latest": 768,
    "text-embedding-3-small": 1536,
    "bge-m3": 1024,
    "mine": 96,
}
"""What is served, and how wide."""


class OpenAIServer(NomicServer):
    """As `NomicServer`, in OpenAI's form.

    Without `keys`, nobody is asked for one. `base64` is what it makes of `encoding_format`; a text of
    more than `most_words` words, or more than `most_texts` texts, are refused as OpenAI and TEI do.
    """

    path: ClassVar[str] = "/v1/embeddings"

    def __init__(
        self,
        *,
        models: Mapping[str, int] = MODELS,
        base64: Literal["answers", "ignores", "refuses", "fails", "empties"] = "answers",
        most_words: int | None = None,
        most_texts: int = 2048,
        keys: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(keys=keys, **options)
        self.models = dict(models)
        self.base64 = base64
        self.most_words = most_words
        self.most_texts = most_texts
        self.base_url = f"{self.url}/v1"
        if not keys:
            self._keys = _Anybody()

    def _refused(self, code: int, detail: str) -> _Answer:
        error = {"message": detail, "type": "invalid_request_error", "param": None, "code": None}
        return _Answer(code, json.dumps({"error": error}).encode())

    def _complaint(self, request: Any) -> tuple[int, str]:
        if not isinstance(request, dict) or not isinstance(request.get("input"), str | list):
            return 400, "you must provide an input"
        if request.get("model") not in self.models:
            return 404, f"The model `{request.get('model')}` does not exist"
        if request.get("encoding_format", "float") != "float" and self.base64 == "refuses":
            return 422, "encoding_format: only float is known"
        if request.get("encoding_format", "float") != "float" and self.base64 == "fails":
            return 500, "encoding_format base64 is not supported"
        texts = self._texts(request)
        if not 1 <= len(texts) <= self.most_texts:
            return 413, f"batch size {len(texts)} > maximum allowed batch size {self.most_texts}"
        if not all(isinstance(text, str) and text for text in texts):
            return 400, "'$.input' is invalid"
        longest = max(len(text.split()) for text in texts)
        if self.most_words is not None and longest > self.most_words:
            return 400, (
                f"This model's maximum context length is {self.most_words} tokens, however you requested "
                f"{longest} tokens. Please reduce your prompt."
            )
        return 200, ""

    def _texts(self, request: dict[str, Any]) -> list[str]:
        given = request["input"]
        return [given] if isinstance(given, str) else given

    def _read_recordings(self, path: Path) -> dict[tuple[str, str, str], dict[int, NDArray[np.float32]]]:
        recorded: dict[tuple[str, str, str], dict[int, NDArray[np.float32]]] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            row = np.array(entry["embedding"], np.float32)
            recorded[entry["model"], "", entry["text"]] = {len(row): row}
        return recorded

    def vectors(self, model: str, texts: list[str]) -> NDArray[np.float32]:
        """The (n, width) float32 vectors that the model has of these texts, prefixes and all."""
        width = self.models[model]
        rows = np.empty((len(texts), width), np.float32)
        for i, text in enumerate(texts):
            recorded = self._recorded.get((model, "", text))
            if recorded is not None:
                rows[i] = recorded[width]
                continue
            task, colon, rest = text.partition(": ")
            known = bool(colon) and task in TASKS
            full = nomic_api._vectors().of([rest if known else text], task if known else TASKS[0])
            rows[i] = rounded(np.resize(full, (1, width)) if width > WIDTH else full[:, :width])[0]
        return rows

    def _rows(self, request: dict[str, Any], spoiled: str) -> _Answer:
        rows = self.vectors(request["model"], self._texts(request))
        if spoiled == "wrong_width":
            rows = rows[:, :-1]
        if spoiled == "nan":
            rows[0, 0] = np.nan
        packed = request.get("encoding_format") == "base64" and self.base64 == "answers"
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": base64.b64encode(row.tobytes()).decode() if packed else row.tolist(),
            }
            for i, row in enumerate(rows)
        ]
        if spoiled == "too_few":
            data.pop()
        if spoiled == "zeros":
            data[0]["embedding"] = [0.0] * rows.shape[1]
        if self.base64 == "empties" and request.get("encoding_format") == "base64":
            data.clear()
        if spoiled == "shuffled":
            data.reverse()
        if spoiled == "one_index":
            data = [{**item, "index": 1} for item in data]
        name = "another-model" if spoiled == "other_model" else request["model"]
        answer = {
            "object": "list",
            "data": data,
            "model": name,
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
        if spoiled == "no_rows":
            del answer["data"]
        return _Answer(200, json.dumps(answer).encode())


class _Anybody(set[str]):
    """Keys of a server that asks for none."""

    def __contains__(self, key: object) -> bool:
        return True


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A loopback endpoint in OpenAI's form, without a key.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds before each answer")
    parser.add_argument(
        "--recordings", type=Path, help="lines of JSON with model, text and embedding to replay"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with OpenAIServer(port=args.port, latency=args.latency, recordings=args.recordings) as api:
        sys.stdout.write(f"{api.base_url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stderr.write(f"{api.requests} requests, {api.most_at_once} at once at most\n")


if __name__ == "__main__":
    main()
