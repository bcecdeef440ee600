"""Nomic's hosted embedding models, through Nomic's own client.

`nomic.embed.text` cuts its texts into ten requests or more, sends all of them even when the first
fails, and loses the whole answer with one of them. Here one request is the unit: the client's
`text_api_request` is called with up to ten texts, under an `AtlasClass` that also takes the key from
NOMIC_API_KEY. Headers, parsing and the back-off on 429 and 5xx (1, 2, 4, 8, 16 s) stay the client's.
"""

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder, Task, billed_tokens, checked
from resizable_search.embedders.nomic_client import ADDRESS_VARIABLE, Call, client_class, refusal, shown, told
from resizable_search.errors import BadAnswerError, CredentialsError, UsageError
from resizable_search.specs import EmbedderSpec

DEFAULT_MODEL = "nomic-embed-text-v1.5"
WIDTH = 768
MODELS: Mapping[str, bool] = {DEFAULT_MODEL: True, "nomic-embed-text-v1": False}
"""The known models, and whether their card asks for centring (a layer norm) before truncation."""

DEADLINE_SECONDS = 120.0
"""The client's back-off sleeps 31 s in all; this leaves each of its six requests a quarter of a minute."""
CONNECT_SECONDS = 30.0
"""For the first `GET /v1/user`, which the client sends without a time-out and does not repeat."""
CHECK_SECONDS = 10.0

HOSTED_REQUESTS_PER_MINUTE = 240.0
"""Of the hosted service: 1,200 requests in 5 minutes, as its documentation has it."""


def nomic_spec(kind: str, model: str) -> EmbedderSpec:
    """The spec of a known Nomic model; the same space wherever the model runs. Raises UsageError."""
    if model not in MODELS:
        raise UsageError(f"unknown Nomic model {model!r}: give one of {', '.join(MODELS)}")
    return EmbedderSpec(
        kind=kind,
        model=model,
        width=WIDTH,
        document_task="search_document",
        query_task="search_query",
        centred=MODELS[model],
    )


def nomic_vectors(answer: Any, n: int, spec: EmbedderSpec, who: str) -> NDArray[np.float32]:
    """The (n, width) float32 vectors of the client's answer. Raises BadAnswerError."""
    if not isinstance(answer, dict) or not isinstance(answer.get("embeddings"), list):
        raise BadAnswerError(f"{who} answered without embeddings; try again later", again=True)
    if answer.get("model") != spec.model:
        raise BadAnswerError(
            f"{who} answered for the model {answer.get('model')!r:.80} where {spec.model} was asked; "
            "check that the endpoint serves the model that was named"
        )
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, which `checked` reports
            vectors = np.array(answer["embeddings"], np.float32)
    except (TypeError, ValueError):
        raise BadAnswerError(
            f"{who} answered embeddings that are not rows of {spec.width} numbers; try again later",
            again=True,
        ) from None
    return checked(vectors, n, spec.width, who)


class NomicEmbedder(Embedder):
    """A model of Nomic's at its hosted service, or wherever ATLAS_API_PATH points.

    The key is NOMIC_API_KEY's, else that of `nomic login`. `deadline` is how many seconds one call of
    `embed` may take before it is given up; the client's own back-off needs 31 of them.
    The client keeps the account in a module variable, so one process asks for one account at a time.
    """

    kind: ClassVar[str] = "nomic"
    remote: ClassVar[bool] = True
    known_models: ClassVar[Collection[str]] = MODELS
    batch_size = 10
    concurrency = 8

    def __init__(self, *, model: str = DEFAULT_MODEL, deadline: float = DEADLINE_SECONDS) -> None:
        self._spec = nomic_spec(self.kind, model)
        self._deadline = deadline
        self._client: Any = None
        self._lock = threading.Lock()
        self.requests_per_minute = None if os.environ.get(ADDRESS_VARIABLE) else HOSTED_REQUESTS_PER_MINUTE

    @property
    def spec(self) -> EmbedderSpec:
        """The model, its tasks and its full width."""
        return self._spec

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed up to ten texts in one request. Returns (n, 768) float32; raises EmbedderError.

        The client repeats a request that was answered with 429 or 5xx up to five times, each
        time asking `before_repeat`, and no more once the deadline has passed.
        """
        client = self._connected(min(self._deadline, CONNECT_SECONDS))
        import nomic.embed

        call = Call(self.before_repeat)

        def request() -> Any:
            client.calls.now = call
            nomic.embed.atlas_class = client
            return nomic.embed.text_api_request(
                list(texts), self._spec.model, task, dimensionality=WIDTH, long_text_mode="truncate"
            )

        try:
            answer = told(request, self._deadline, client)
        except CredentialsError:
            self._forget(client)
            raise
        finally:
            call.over = True
        found = nomic_vectors(answer, len(texts), self._spec, "Nomic")
        if self.on_usage is not None:
            self.on_usage(billed_tokens(answer))
        return found

    def check(self) -> str:
        """Ask the service whether it takes the key; say in a few words which key and which service.

        Sends no text and costs nothing. Raises CredentialsError, or ServiceError after about 10 s.
        """
        client = self._connected(CHECK_SECONDS)
        import requests

        def request() -> None:
            answer = requests.get(
                f"{client.atlas_api_path}/v1/user", headers=client.header, timeout=CHECK_SECONDS
            )
            if answer.status_code != 200:
                raise refusal(answer.status_code, answer.text, client)
            answer.json()

        try:
            told(request, CHECK_SECONDS, client)
        except CredentialsError:
            self._forget(client)
            raise
        return f"the key from {client.key_source} is accepted by {shown(client.atlas_api_path)}"

    def _connected(self, seconds: float) -> Any:
        """The client, made on first use: making one sends a request."""
        with self._lock:
            if self._client is None:
                self._client = told(client_class(), seconds)
            return self._client

    def _forget(self, client: Any) -> None:
        """Read the credentials again next time: a login of limited life is renewed then."""
        with self._lock:
            if self._client is client:
                self._client = None
