"""Any model behind `POST /v1/embeddings`: OpenAI's own, Ollama, llama.cpp, vLLM, TEI, LM Studio, Infinity.

They agree on the request and little else. Texts are sent behind the prefixes that the model wants (`models`).
The index stores the model's canonical name, the address, and the name of the variable with the key.
"""

import base64
import itertools
import os
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders import models
from resizable_search.embedders.base import Embedder, Task, billed_tokens, checked, seconds_for
from resizable_search.embedders.http import Endpoint, TooLongError, checked_url, is_local
from resizable_search.errors import BadAnswerError, EmbedderError, RefusedTextError, ServiceError, UsageError
from resizable_search.specs import EmbedderSpec

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"  # the default address, as for OpenAI's own client
TIMEOUT_SECONDS = 120.0
LOCAL_TIMEOUT_SECONDS = 600.0  # a server on this machine may be slow, and loads the model on first use
PROBE = "a tree"  # the text that `check` embeds
POOLING = "start it with pooling (llama.cpp: --pooling mean)"
MAX_CUTS = 6  # how often a text that is too long is cut again
BYTES_PER_TOKEN = 2.5  # of dense text in UTF-8: most has more, so that a guess is rarely too low


class OpenAIEmbedder(Embedder):
    """The model `model` at the endpoint `base_url`, with the key in the variable `api_key_env`.

    `encoding_format` is `base64` or `float`; without it base64 is tried first, a quarter of the bytes.
    None means the known model's value (`models`). `served_as` is the endpoint's name for the model if
    `model` is the canonical one. Raises UsageError.
    """

    kind: ClassVar[str] = "openai"
    remote: ClassVar[bool] = True
    check_costs: ClassVar[str] = "two words were embedded to see that the endpoint answers"
    known_models = ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002")

    def __init__(
        self,
        *,
        model: str | None = None,
        base_url: str | None = None,
        api_key_env: str | None = None,
        document_prefix: str | None = None,
        query_prefix: str | None = None,
        served_as: str | None = None,
        encoding_format: str | None = None,
        width: int | None = None,
        centred: bool | None = None,
        timeout: float | None = None,
    ) -> None:
        if not model:
            raise UsageError(
                "the openai embedder needs `model`: the endpoint's name for it, e.g. text-embedding-3-small"
            )
        self._served_as = served_as or model
        self._model = model if served_as else models.canonical(model)
        self._base_url = checked_url(base_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
        self._variable = _checked_variable(DEFAULT_VARIABLE if api_key_env is None else api_key_env)
        card = models.find(self._model) or models.ModelCard(self._model, 0, 0)
        self._prefixes = {
            "search_document": card.document_prefix if document_prefix is None else document_prefix,
            "search_query": card.query_prefix if query_prefix is None else query_prefix,
        }
        if not all(isinstance(prefix, str) for prefix in self._prefixes.values()):
            raise TypeError("a prefix must be a text")
        self._centred = card.centred if centred is None else centred
        self._width = width or card.width
        self._max_tokens = card.max_tokens
        self._max_request_tokens = card.tokens_per_request
        self._refuses_long = card.tokens_per_request is not None  # others cut a long text by themselves
        self.batch_size = card.texts_per_request
        local = is_local(self._base_url)
        self.concurrency = 2 if local else 8
        self._timeout = timeout or (LOCAL_TIMEOUT_SECONDS if local else TIMEOUT_SECONDS)
        own = self._base_url == DEFAULT_URL
        self._endpoint = Endpoint(self._base_url, self._variable, self._served_as, needs_key=own)
        if encoding_format not in (None, "base64", "float"):
            raise UsageError(f"`encoding_format` is base64 or float, not {encoding_format!r:.80}")
        self._wanted_encoding = encoding_format
        self._encoding = encoding_format or ""  # unknown yet
        self._noted_names: set[str] = set()
        self._cuts = itertools.count(1)

    @property
    def spec(self) -> EmbedderSpec:
        """The model, its prefixes and its width. Asks the endpoint once for an unknown model's width."""
        if not self._width:
            self.check()
        # All options: a later rsearch, whose `models` say something else, must open the index alike.
        options = {"base_url": self._base_url, "api_key_env": self._variable, "served_as": self._served_as}
        if self._wanted_encoding:
            options["encoding_format"] = self._wanted_encoding
        return models.spec_of(self.kind, self._model, self._width, self._prefixes, self._centred, options)

    @property
    def key_destination(self) -> tuple[str, str] | None:
        """The address and the variable, except for OpenAI's key at OpenAI or at this machine."""
        own = self._base_url == DEFAULT_URL or is_local(self._base_url)
        if (own and self._variable == DEFAULT_VARIABLE) or not os.environ.get(self._variable, "").strip():
            return None
        return self._base_url, self._variable

    def check(self) -> str:
        """Embed two words: nothing less shows that key, address and model are right."""
        try:
            self._embed_inputs([self._prefixes["search_query"] + PROBE], self._timeout)
        except RefusedTextError as error:  # the text is not the problem
            what = str(error).partition("; ")[0]
            remedy = f"{self._served_as!r} may be no embedding model; check `model`"
            if "pooling" in what.lower():
                remedy = POOLING
            raise EmbedderError(f"{what} as short as {PROBE!r}: {remedy}") from None
        key = f"with the key from {self._variable}" if self._endpoint.key() else "without a key"
        return f"{self._base_url} embeds with {self._served_as} ({self._width} dimensions), {key}"

    def fit_in(self, texts: Sequence[str]) -> int:
        """By number and by guessed tokens. A text that the endpoint may refuse as too long goes alone."""
        left = float(self._max_request_tokens or "inf")
        alone = self._max_tokens if self._refuses_long and self._max_tokens else float("inf")
        for count, text in enumerate(texts[: self.batch_size]):
            tokens = len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN
            left -= min(tokens, alone)
            if left < 0 or tokens > alone:
                return max(1, count)
        return min(len(texts), self.batch_size)

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed up to `batch_size` texts in one request, a single one cut if it is too long."""
        prefix, seconds = self._prefixes[task], seconds_for(task, len(texts), self._timeout)
        try:
            return self._embed_inputs([prefix + text for text in texts], seconds)
        except TooLongError as error:
            self._refuses_long = True
            if len(texts) > 1:
                raise
            self._max_tokens = error.limit or self._max_tokens
            return self._embed_cut(prefix, texts[0], error, seconds)

    def _embed_cut(
        self, prefix: str, text: str, refused: TooLongError, seconds: float
    ) -> NDArray[np.float32]:
        cut = text
        for _ in range(MAX_CUTS):
            cut = cut[: max(1, int(len(cut) * refused.share))]
            self.before_repeat()
            try:
                rows = self._embed_inputs([prefix + cut], seconds)
            except TooLongError as error:
                refused = error
                continue
            self.note_cut(self._served_as, f"{len(cut):,} of its {len(text):,} characters")
            return rows
        raise refused

    def _embed_inputs(self, inputs: list[str], seconds: float) -> NDArray[np.float32]:
        """The rows of one request, (n, width) float32, in the encoding that the endpoint knows."""
        try:
            return self._request(inputs, self._encoding or "base64", seconds)
        except (RefusedTextError, ServiceError, BadAnswerError) as error:  # the text, or base64
            is_other = isinstance(error, TooLongError) or getattr(error, "status", 500) != 500
            if self._encoding or is_other:
                raise
            self.before_repeat()
            try:
                return self._request(inputs, "float", seconds)
            except EmbedderError:
                raise error from None

    def _request(self, inputs: list[str], encoding: str, seconds: float) -> NDArray[np.float32]:
        body: dict[str, Any] = {"model": self._served_as, "input": inputs}
        if encoding != "float":  # the default everywhere
            body["encoding_format"] = encoding
        answer = self._endpoint.post(body, seconds)
        rows = rows_of(answer, len(inputs), self._base_url, self._width)
        self._width, self._encoding = rows.shape[1], encoding
        self.on_usage(billed_tokens(answer))
        name = answer.get("model")
        if not isinstance(name, str) or not name or name in self._noted_names:
            return rows
        self._noted_names.add(name)
        if models.canonical(name) != self._model and not name.startswith(self._served_as):
            self.on_note(  # no error, since endpoints rename
                f"{self._base_url} answers for {name!r:.100}, but was asked for {self._served_as!r}: "
                "make sure that it is the same model"
            )
        return rows


def rows_of(answer: Any, n: int, who: str, width: int = 0) -> NDArray[np.float32]:
    """An answer's rows in the order of the texts, (n, width) float32; 0: any width. Raises BadAnswerError."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        problem = f"{who} answered without embeddings; check `base_url`, or try again later"
        raise BadAnswerError(problem, again=True)
    numbers = [item.get("index") for item in data]
    if numbers.count(None) == 1 and 0 not in numbers:  # who writes no defaults (protobuf) writes no 0
        numbers[numbers.index(None)] = 0
    if numbers not in ([None] * len(data), [0] * len(data)):  # else they are in the order of the texts
        try:
            places = [int(float(number)) for number in numbers]  # of text or number, from 0 or 1
            data = [data[places.index(min(places) + place)] for place in range(len(data))]
        except (TypeError, ValueError, OverflowError):
            given = ", ".join(map(str, numbers))[:60]
            problem = f"{who} numbered its {len(data)} vectors {given}; try again later"
            raise BadAnswerError(problem, again=True) from None
    rows = [item.get("embedding") for item in data]
    if any(isinstance(row, list) and row and isinstance(row[0], list) for row in rows):
        raise BadAnswerError(f"{who} answered a vector for each token: {POOLING}")
    return checked(map(_decoded, rows), n, width, who)


def _decoded(row: Any) -> Any:
    """A row's numbers: a list, or little-endian float32 in base64. Raises ValueError."""
    return np.frombuffer(base64.b64decode(row, validate=True), "<f4") if isinstance(row, str) else row


def _checked_variable(name: str) -> str:
    """The name of an environment variable. Raises UsageError, which does not show a possible key."""
    like_a_key = len(name) >= 20 and re.search(r"[a-z]", name) and re.search(r"[A-Z0-9]", name)  # hf_…, gsk_…
    if like_a_key or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise UsageError(
            "`api_key_env` must be the name of the environment variable with the key, such as "
            f"{DEFAULT_VARIABLE}, not the key itself"
        )
    return name
