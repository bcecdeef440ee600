"""Nomic's embedding models through Nomic's own client: at its hosted service, or on this machine.

`nomic.embed.text` sends ten requests or more, and loses all answers with one of them. So one request is the
unit here: `text_api_request` with up to ten texts, under an `AtlasClass` that also takes the key from
NOMIC_API_KEY. Headers, parsing and the back-off on 429 and 5xx (1, 2, 4, 8, 16 s) stay the client's.
"""

import functools
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders import http, models
from resizable_search.embedders.base import Embedder, Task, billed_tokens, checked, seconds_for
from resizable_search.environment import install_command, unusable_setting, without_user
from resizable_search.errors import (
    BadAnswerError,
    CredentialsError,
    EmbedderError,
    NoCredentialsError,
    ServiceError,
    UsageError,
)
from resizable_search.specs import EmbedderSpec

DEFAULT_MODEL = "nomic-embed-text-v1.5"
MODELS = (DEFAULT_MODEL, "nomic-embed-text-v1")
WIDTH = 768
KEY_VARIABLE = "NOMIC_API_KEY"
ADDRESS_VARIABLE = "ATLAS_API_PATH"
TENANTS = ("production", "staging", "enterprise")

REQUEST_SECONDS = 120.0  # the client's back-off sleeps 31 s in all; each of its six requests gets 15 s
CONNECT_SECONDS = 30.0
CHECK_SECONDS = 10.0
HOSTED_REQUESTS_PER_MINUTE = 240.0  # the hosted service's documented limit is 1,200 requests in 5 minutes

# The address and header of the call in each thread: the client reads them from a module variable.
_account = threading.local()


def nomic_spec(kind: str, model: str) -> EmbedderSpec:
    """The spec of a Nomic model; the same space wherever it runs. Raises UsageError."""
    if model not in MODELS:
        raise UsageError(f"unknown Nomic model {model!r}: choose one of {', '.join(MODELS)}")
    return EmbedderSpec(kind, model, WIDTH, "search_document", "search_query", models.MODELS[model].centred)


def _vectors(answer: Any, n: int, model: str, who: str) -> NDArray[np.float32]:
    """The (n, width) float32 vectors of the client's answer. Raises BadAnswerError."""
    if not isinstance(answer, dict) or not isinstance(answer.get("embeddings"), list):
        raise BadAnswerError(f"{who} answered without embeddings; try again later", again=True)
    if answer.get("model") != model:
        raise BadAnswerError(
            f"{who} answered for the model {answer.get('model')!r:.80} where {model} was asked; "
            "check that it serves the right model"
        )
    return checked(answer["embeddings"], n, WIDTH, who)


class NomicEmbedder(Embedder):
    """A Nomic model at the hosted service or at ATLAS_API_PATH, by the key in NOMIC_API_KEY or the login."""

    kind: ClassVar[str] = "nomic"
    remote: ClassVar[bool] = True
    known_models: ClassVar[Collection[str]] = MODELS
    batch_size = 10
    concurrency = 8

    def __init__(self, *, model: str = DEFAULT_MODEL, timeout: float = REQUEST_SECONDS) -> None:
        self._spec = nomic_spec(self.kind, model)
        self._timeout = timeout
        self._client: Any = None
        self._has_answered = False
        self._lock = threading.Lock()
        self.requests_per_minute = None if os.environ.get(ADDRESS_VARIABLE) else HOSTED_REQUESTS_PER_MINUTE

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed up to ten texts in one request: (n, 768) float32. Raises EmbedderError."""
        client = self._connected(min(self._timeout, CONNECT_SECONDS))
        header = _Header(client.header, self.before_repeat)

        def request() -> Any:
            import nomic.embed

            _account.atlas_api_path, _account.header = client.atlas_api_path, header
            nomic.embed.atlas_class = _account
            return nomic.embed.text_api_request(
                list(texts), self._spec.model, task, dimensionality=WIDTH, long_text_mode="truncate"
            )

        try:
            answer = self._call(request, seconds_for(task, len(texts), self._timeout), client)
        finally:
            header.is_over = True
        vectors = _vectors(answer, len(texts), self._spec.model, "Nomic")
        self._has_answered = True
        self.on_usage(billed_tokens(answer))
        return vectors

    def check(self) -> str:
        """Ask whether the service accepts the key, which costs nothing."""
        client = self._connected(CHECK_SECONDS)

        def request() -> None:
            import requests

            url = f"{client.atlas_api_path}/v1/user"
            answer = requests.get(url, headers=client.header, timeout=CHECK_SECONDS)
            if answer.status_code != 200:
                raise self._service(client).error(answer.status_code, answer.text, answer.headers)
            answer.json()

        self._call(request, CHECK_SECONDS, client)
        return f"the key from {client.key_source} is accepted by {without_user(client.atlas_api_path)}"

    def _connected(self, seconds: float) -> Any:
        """The client, made on first use, which sends a request."""
        with self._lock:
            if self._client is None:
                self._client = self._call(_client_class(), seconds)
            return self._client

    def _service(self, client: Any) -> http.RemoteService:
        address = os.environ.get(ADDRESS_VARIABLE)
        check = f"check {ADDRESS_VARIABLE}" if address else "check the network connection"
        return http.RemoteService(
            name=f"{without_user(address)} ({ADDRESS_VARIABLE})" if address else "Nomic",
            model=self._spec.model,
            key=client.token if client else "",
            key_source=client.key_source if client else KEY_VARIABLE,
            key_remedy=f"run `nomic login` and unset {KEY_VARIABLE}, or set it to a valid key",
            quota_remedy="add to it at https://atlas.nomic.ai",
            address_remedy=check if address else "try again later",
            down_remedy=f"{check}, or try again later",
            has_answered=self._has_answered,
        )

    def _call(self, function: Callable[[], Any], seconds: float, client: Any = None) -> Any:
        """Call the client within `seconds`. Its failures, which may hold a secret, are no cause of ours."""
        import requests.exceptions as failures

        service = self._service(client)
        known: EmbedderError
        try:
            return http.call_with_timeout(function, seconds, service.name)
        except EmbedderError as error:
            known = error
        except failures.JSONDecodeError:
            known = service.not_json()
        except (failures.MissingSchema, failures.InvalidSchema, failures.InvalidURL) as error:
            words = unusable_setting(error)
            known = EmbedderError(words) if words else service.no_address()
        except failures.RequestException as error:
            known = service.unreachable(error)
        except Exception as error:
            match error.args:
                case ((int() as status, str() as body),):
                    known = service.error(status, body)
                case _ if words := unusable_setting(error):
                    known = EmbedderError(words)
                case _ if type(error) is Exception:  # how the client reports 5xx from /v1/user
                    known = ServiceError(f"{service.name} is failing; {service.down_remedy}")
                case _:
                    raise
        if isinstance(known, CredentialsError) and self._client is client:
            self._client = None  # read the key again next time: a login may have been renewed
        raise known from None


class _Header(dict[str, str]):
    """The header of one call. `requests` reads its items before each request: the place to stop repeats."""

    def __init__(self, header: Mapping[str, str], before_repeat: Callable[[], None]) -> None:
        super().__init__(header)
        self.is_over = False
        self._before_repeat = before_repeat
        self._sent = 0

    def items(self) -> Any:
        if self.is_over:
            raise ServiceError("the call timed out; try again later")
        self._sent += 1
        if self._sent > 1:
            self._before_repeat()
        return super().items()


def has_credentials() -> bool:
    """Whether there is a key or a login, good or not."""
    import nomic.cli

    login = nomic.cli.nomic_base_path / "credentials"
    return bool(os.environ.get(KEY_VARIABLE, "").strip()) or os.path.lexists(login)


@functools.cache
def _client_class() -> Callable[[], Any]:
    """The client's AtlasClass with NOMIC_API_KEY, made on first use: importing nomic takes over a second."""
    import nomic.cli
    from loguru import logger
    from nomic.dataset import AtlasClass

    logger.disable("nomic")  # it logs a refused key to stderr; here that is an error

    class Client(AtlasClass):  # type: ignore[misc]  # nomic is untyped to mypy
        @functools.cached_property
        def credentials(self) -> dict[str, Any]:
            key = os.environ.get(KEY_VARIABLE, "").strip()
            self.key_source = KEY_VARIABLE if key else str(nomic.cli.nomic_base_path / "credentials")
            credentials = {"token": key, "tenant": "production"} if key else self._login()
            http.checked_key(credentials["token"], self.key_source, KEY_VARIABLE)
            return credentials

        def _login(self) -> dict[str, Any]:
            if not os.path.lexists(self.key_source):
                raise NoCredentialsError("no Nomic credentials", "run `nomic login`", f"set {KEY_VARIABLE}")
            with suppress(Exception):  # all kinds, and one that quotes an address with a token
                login: dict[str, Any] = super().credentials
                domains = ("api_domain", "frontend_domain") if login["tenant"] == "enterprise" else ()
                texts = [login[name] for name in ("tenant", "token", *domains)]
                if login["tenant"] in TENANTS and all(isinstance(text, str) for text in texts):
                    return login
            raise CredentialsError(
                f"the login in {self.key_source} is damaged, or has expired and could not be renewed; "
                f"run `nomic login` again, or set {KEY_VARIABLE}"
            )

    return Client


class NomicLocalEmbedder(Embedder):
    """A Nomic model run by gpt4all, in the same space as the hosted one; loading it needs the network."""

    kind: ClassVar[str] = "nomic-local"
    loads_slowly: ClassVar[bool] = True
    batch_size = 64

    def __init__(self, *, model: str = DEFAULT_MODEL) -> None:
        self._spec = nomic_spec(self.kind, model)

    def check(self) -> str:
        """Check that gpt4all is installed and works here. Loads no model."""
        _local_client()
        return "gpt4all is installed"

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed up to 64 texts: (n, 768) float32. The first call loads the model. Raises EmbedderError."""
        client = _local_client()
        try:
            options = {"dimensionality": WIDTH, "long_text_mode": "truncate", "inference_mode": "local"}
            answer = client.text(list(texts), model=self._spec.model, task_type=task, **options)
        except Exception as error:
            raise EmbedderError(
                f"gpt4all cannot embed with {self._spec.model}.f16.gguf: {http.root_cause(error)}; connect "
                "to the network to fetch it, or delete it from ~/.cache/gpt4all if it is damaged"
            ) from error
        return _vectors(answer, len(texts), self._spec.model, "gpt4all")


def _local_client() -> Any:
    """`nomic.embed` with gpt4all, and without its progress bar for each call."""
    remedy = f"`{install_command('local')}`, or use `embedder=nomic`"
    try:
        import nomic.embed
    except OSError as error:  # gpt4all loads its native library when it is imported
        raise EmbedderError(f"gpt4all does not work on this machine: {remedy}") from error
    if nomic.embed.Embed4All is None:
        raise EmbedderError(f"gpt4all is not installed: {remedy}")
    nomic.embed.tqdm = functools.partial(nomic.embed.tqdm, disable=True)
    return nomic.embed
