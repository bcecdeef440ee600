"""Any model behind `POST /v1/embeddings`: OpenAI's own, Ollama, llama.cpp, vLLM, TEI, LM Studio, Infinity.

The endpoint is sent plain texts, with the prefix that the model wants before each (`models`); what
the index keeps is the model's canonical name, so that vectors of one model may be compared wherever
it ran. The index keeps the endpoint's address and the name of the variable with its key, never the key.
"""

import base64
import os
import threading
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders import models
from resizable_search.embedders.base import Embedder, Task, billed_tokens, checked
from resizable_search.embedders.http import Endpoint, TooLongError
from resizable_search.embedders.urls import (
    DEFAULT_URL,
    DEFAULT_VARIABLE,
    URL_VARIABLE,
    checked_url,
    checked_variable,
    is_local,
)
from resizable_search.errors import BadAnswerError, EmbedderError, RefusedTextError, UsageError
from resizable_search.specs import EmbedderSpec

DEADLINE_SECONDS = 120.0
LOCAL_DEADLINE_SECONDS = 600.0
"""A server on this machine may have no more than its processor, and loads the model on first use."""

PROBE = "a tree"
"""The text that an endpoint is asked for once, to see whether it answers and how wide its vectors are."""

MOST_CUTS = 6
"""How often a text that is too long is cut further."""

BYTES_PER_TOKEN = 2.5
"""Of UTF-8, of text that has many tokens: more than most has, so that a guess is not below the count."""


class OpenAIEmbedder(Embedder):
    """The model that an endpoint calls `model`, at `base_url`, with the key in the variable `api_key_env`.

    What is None is the known model's (`models`), or found out: the width of an unknown one is asked
    for once. `served_as` is what the endpoint calls the model if `model` is its canonical name;
    `deadline` is how many seconds a request may take. Raises UsageError without a model and for a URL
    or a variable's name that is none.
    """

    kind: ClassVar[str] = "openai"
    remote: ClassVar[bool] = True
    check_costs: ClassVar[str] = "two words were embedded to see that the endpoint answers"
    known_models: ClassVar[Collection[str]] = models.OPENAI_MODELS

    def __init__(
        self,
        *,
        model: str | None = None,
        base_url: str | None = None,
        api_key_env: str | None = None,
        document_prefix: str | None = None,
        query_prefix: str | None = None,
        served_as: str | None = None,
        width: int | None = None,
        centred: bool | None = None,
        deadline: float | None = None,
    ) -> None:
        if not model:
            raise UsageError(
                "--embedder openai needs --model: what the endpoint calls it, e.g. text-embedding-3-small"
            )
        self._served_as = served_as or model
        self._model = model if served_as else models.canonical(model)
        self._base_url = checked_url(base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
        self._variable = checked_variable(DEFAULT_VARIABLE if api_key_env is None else api_key_env)
        card = models.find(self._model) or models.ModelCard(self._model, 0, 0)
        self._prefixes = {
            "search_document": card.document_prefix if document_prefix is None else document_prefix,
            "search_query": card.query_prefix if query_prefix is None else query_prefix,
        }
        if not all(isinstance(prefix, str) for prefix in self._prefixes.values()):
            raise TypeError("a prefix is no text")
        self._centred = card.centred if centred is None else centred
        self._width = width or card.width
        self._longest = card.max_tokens
        self._refuses_long = card.tokens_per_request is not None  # others cut a long text by themselves
        self._most_tokens = card.tokens_per_request
        self.batch_size = card.texts_per_request
        local = is_local(self._base_url)
        self.concurrency = 2 if local else 8
        self._endpoint = Endpoint(
            self._base_url,
            self._variable,
            self._served_as,
            deadline or (LOCAL_DEADLINE_SECONDS if local else DEADLINE_SECONDS),
        )
        self._encoding = ""  # not known yet: "base64" is a quarter of the bytes, "float" understood by all
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._cut = 0

    @property
    def spec(self) -> EmbedderSpec:
        """The model, its prefixes and its width; for an unknown model's, the endpoint is asked once."""
        if not self._width:
            self.check()
        return EmbedderSpec(
            kind=self.kind,
            model=self._model,
            width=self._width,
            document_task=models.task_of(self._prefixes["search_document"]),
            query_task=models.task_of(self._prefixes["search_query"]),
            centred=self._centred,
            # All of it: an index is to be opened alike by an rsearch whose `models` say something else.
            options={
                "base_url": self._base_url,
                "api_key_env": self._variable,
                "served_as": self._served_as,
                "document_prefix": self._prefixes["search_document"],
                "query_prefix": self._prefixes["search_query"],
                "width": self._width,
                "centred": self._centred,
            },
        )

    @property
    def entrusts(self) -> tuple[str, str] | None:
        """The address and the variable whose key it is sent, unless that is what the variable is for."""
        own = self._base_url == DEFAULT_URL or is_local(self._base_url)
        if (own and self._variable == DEFAULT_VARIABLE) or not os.environ.get(self._variable, "").strip():
            return None
        return self._base_url, self._variable

    @classmethod
    def remark_on(cls, spec: EmbedderSpec) -> str:
        """What truncating a model's vectors costs, if it was not trained for it or is not known."""
        return models.truncation_remark(spec.model) or models.unknown_remark(spec.model)

    def check(self) -> str:
        """Have the endpoint embed two words, the only sure sign that key, address and model are right."""
        try:
            rows = self._rows([self._prefixes["search_query"] + PROBE])
        except RefusedTextError as error:  # there is nothing wrong with the text
            what = str(error).partition("; ")[0]
            raise EmbedderError(
                f"{what} as short as {PROBE!r}: {self._served_as!r} may be no embedding model; check --model"
            ) from None
        self._width = self._width or rows.shape[1]
        checked(rows, 1, self._width, self._base_url)
        key = f"with the key from {self._variable}" if self._endpoint.key() else "without a key"
        return f"{self._base_url} embeds with {self._served_as} ({self._width} dimensions), {key}"

    def fit_in(self, texts: Sequence[str]) -> int:
        """How many of these texts, from the first on, one request takes: by number and by tokens.

        Tokens are guessed. Where long texts are refused, one that may be too long goes alone: no other
        is refused with it.
        """
        left = float(self._most_tokens or "inf")
        alone = self._longest if self._refuses_long and self._longest else float("inf")
        for count, text in enumerate(texts[: self.batch_size]):
            tokens = len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN
            left -= min(tokens, alone)
            if count and (left < 0 or tokens > alone):
                return count
            if tokens > alone:
                return 1
        return min(len(texts), self.batch_size)

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed up to `batch_size` texts in one request. Returns (n, width) float32; raises EmbedderError.

        A single text that the endpoint finds too long is cut until it is taken, which is told.
        """
        prefix = self._prefixes[task]
        inputs = [prefix + text for text in texts]
        try:
            rows = self._rows(inputs)
        except TooLongError as error:
            self._refuses_long = True
            if len(inputs) > 1:
                raise
            self._longest = error.limit or self._longest
            rows = self._rows_of_cut(prefix, texts[0], error)
        self._width = self._width or rows.shape[1]
        return checked(rows, len(texts), self._width, self._base_url)

    def _rows_of_cut(self, prefix: str, text: str, refused: TooLongError) -> NDArray[np.float32]:
        kept = text
        for _ in range(MOST_CUTS):
            kept = kept[: max(1, int(len(kept) * refused.share))]
            self._before_repeat()
            try:
                rows = self._rows([prefix + kept])
            except TooLongError as error:
                refused = error
                continue
            self._tell_of_cut(len(text), len(kept))
            return rows
        raise refused

    def _tell_of_cut(self, length: int, kept: int) -> None:
        with self._lock:
            self._cut += 1
            count = self._cut
        if self.tell is not None and str(count).strip("0") == "1":  # the 1st, 10th, 100th …
            this = "a text" if count == 1 else f"the {count:,}th text"
            self.tell(
                f"{this} is longer than {self._served_as} takes: the first {kept:,} of its {length:,} "
                "characters are embedded"
            )

    def _rows(self, inputs: list[str]) -> NDArray[np.float32]:
        """The endpoint's answer to one request, (n, any width) float32."""
        if self._encoding:
            return self._asked(inputs, self._encoding)
        try:
            rows, encoding = self._asked(inputs, "base64"), "base64"
        except TooLongError:
            raise
        except RefusedTextError as refused:  # of the text, or because it does not know base64
            self._before_repeat()
            try:
                rows, encoding = self._asked(inputs, "float"), "float"
            except RefusedTextError:
                raise refused from None
        self._encoding = encoding
        return rows

    def _asked(self, inputs: list[str], encoding: str) -> NDArray[np.float32]:
        body: dict[str, Any] = {"model": self._served_as, "input": inputs}
        if encoding != "float":  # what they all answer with unless they are asked for something else
            body["encoding_format"] = encoding
        answer = self._endpoint.post(body)
        rows = rows_of(answer, len(inputs), self._base_url)
        if self.on_usage is not None:
            self.on_usage(billed_tokens(answer))
        self._look_at_name(answer.get("model"))
        return rows

    def _look_at_name(self, named: Any) -> None:
        """Say once if the answer names another model: endpoints rename, so it is no error."""
        if not isinstance(named, str) or not named or self.tell is None or named in self._told:
            return
        self._told.add(named)
        if models.canonical(named) != self._model and not named.startswith(self._served_as):
            self.tell(
                f"{self._base_url} answers for {named!r:.100}, and was asked for {self._served_as!r}: "
                "make sure that it is the same model"
            )

    def _before_repeat(self) -> None:
        if self.before_repeat is not None:
            self.before_repeat()


def rows_of(answer: Any, n: int, who: str) -> NDArray[np.float32]:
    """The rows of an answer in the order of the texts, (n, width) float32. Raises BadAnswerError."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise BadAnswerError(
            f"{who} answered without embeddings; check --base-url, or try again later", again=True
        )
    if len(data) != n:
        raise BadAnswerError(f"{who} answered {len(data)} vectors for {n} texts; try again later", again=True)
    places = [item.get("index") for item in data]
    if places != [None] * n:
        if sorted(place if isinstance(place, int) else -1 for place in places) != list(range(n)):
            raise BadAnswerError(
                f"{who} numbered its {n} vectors {', '.join(map(str, places))[:60]}; try again later",
                again=True,
            )
        data = sorted(data, key=lambda item: int(item["index"]))
    found = [item.get("embedding") for item in data]
    if any(isinstance(row, list) and row and isinstance(row[0], list) for row in found):
        raise BadAnswerError(
            f"{who} answered a vector for each token: start it with pooling (llama.cpp: --pooling mean)"
        )
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which `checked` reports
            rows = np.array([_row(row) for row in found], np.float32)
    except (TypeError, ValueError):  # binascii's among them
        rows = np.empty((n, 0), np.float32)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise BadAnswerError(
            f"{who} answered embeddings that are not rows of numbers; try again later", again=True
        )
    return rows


def _row(row: Any) -> Any:
    """One row's numbers: a list, or the bytes of little-endian float32 in base64."""
    if isinstance(row, str):
        return np.frombuffer(base64.b64decode(row, validate=True), "<f4")
    if not isinstance(row, list):
        raise TypeError
    return np.array(row, np.float32)
