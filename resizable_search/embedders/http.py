"""One endpoint that speaks `POST /v1/embeddings`: requests, redirects, and what its failures mean.

Such endpoints (OpenAI, Ollama, llama.cpp, vLLM, TEI, LM Studio, Infinity) agree on the request and
little else. One POST of httpx2 is all that is needed, with its status, headers and body in sight; the
official client would hide them behind retries of its own, follow redirects, and demand a key.
"""

import json
import os
import re
import threading
import time
import weakref
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from resizable_search import __version__
from resizable_search.embedders.nomic_client import reason
from resizable_search.embedders.request_pool import call_with_deadline
from resizable_search.embedders.urls import DEFAULT_URL, is_local, origin, parts_of, same_server
from resizable_search.errors import (
    CredentialsError,
    EmbedderError,
    QuotaError,
    RateLimitedError,
    RefusedTextError,
    ServiceError,
)

MOST_REDIRECTS = 3
MOST_PATIENCE = 600.0
"""Seconds of a Retry-After that are waited for: a service that names more is asked again another day."""

_KEY = re.compile(r"sk-[\w*.-]+")
_UNPAID = ("insufficient_quota", "billing_not_active", "billing_hard_limit_reached")
_TOO_LONG = re.compile(
    r"maximum context length|context (?:length|size|window)|too (?:large|long)|physical batch size"
    r"|less than \d+ tokens",
    re.IGNORECASE,
)
_REDIRECTS = (301, 302, 307, 308)


class TooLongError(RefusedTextError):
    """A text is longer than the model takes: `limit` tokens, 0 if that was not told.

    `share` is how much of it may stay, as far as one can tell.
    """

    def __init__(self, message: str, limit: int, share: float) -> None:
        super().__init__(message)
        self.limit = limit
        self.share = share


class Endpoint:
    """The embeddings of one base URL, asked for with the key in one variable; for any number of threads.

    A call takes `deadline` seconds at most. Errors hold neither the key nor what surrounds it.
    """

    def __init__(self, base_url: str, variable: str, model: str, deadline: float) -> None:
        self.base_url = base_url
        self._variable = variable
        self._model = model
        self._deadline = deadline
        self._http: Any = None
        self._lock = threading.Lock()

    def key(self) -> str:
        """The key, '' if there is none. Raises CredentialsError for one that cannot be."""
        key = os.environ.get(self._variable, "").strip()
        # a header with other characters is refused by an error that quotes it
        if not re.fullmatch(r"[!-~]*", key):
            raise CredentialsError(
                f"{self._variable} holds a key with characters that no key has; set it to the key alone"
            )
        return key

    def post(self, body: dict[str, Any]) -> Any:
        """The parsed answer to one request. Raises EmbedderError."""
        return call_with_deadline(lambda: self._post(body), self._deadline, self.base_url)

    def _post(self, body: dict[str, Any]) -> Any:
        import httpx2

        key = self.key()
        if not key and self.base_url == DEFAULT_URL:
            raise CredentialsError(
                f"no key for {self.base_url}: set {self._variable}, name another variable with "
                "--api-key-env, or another endpoint with --base-url"
            )
        headers = {"Content-Type": "application/json", "User-Agent": f"rsearch/{__version__}"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        url = f"{self.base_url}/embeddings"
        content = json.dumps(body).encode()
        for _ in range(1 + MOST_REDIRECTS):
            try:
                answer = self._client().post(url, content=content, headers=headers)
            except httpx2.InvalidURL:
                raise EmbedderError(
                    f"{self.base_url} is no address; give one like http://127.0.0.1:11434/v1 with --base-url"
                ) from None
            except httpx2.HTTPError as error:
                raise ServiceError(
                    f"cannot reach {self.base_url}: {_without(reason(error), key)}; "
                    "see that the server runs, or try again later"
                ) from None
            if answer.status_code in _REDIRECTS:
                url = self._redirected(url, answer.headers.get("Location", ""))
                continue
            if answer.status_code != 200:
                raise self._refusal(answer.status_code, answer.text, answer.headers, key)
            try:
                return json.loads(answer.content)
            except ValueError:
                raise ServiceError(
                    f"{self.base_url} answered something that is not JSON; {self._look_at_url()}, "
                    "or look for a proxy in between"
                ) from None
        raise EmbedderError(f"{self.base_url} redirects in a circle; {self._look_at_url()}")

    def _client(self) -> Any:
        with self._lock:
            if self._http is None:
                import httpx2

                # Redirects are followed by hand, since the key must not travel; a thread that was given
                # up ends by itself some time after the deadline.
                limits = httpx2.Limits(max_connections=None, max_keepalive_connections=32)
                try:
                    self._http = httpx2.Client(
                        follow_redirects=False,
                        timeout=self._deadline,
                        limits=limits,
                        trust_env=not is_local(self.base_url),  # no proxy leads back to this machine
                    )
                except (ValueError, ImportError):  # they quote the proxy's address, password and all
                    raise EmbedderError(
                        "the environment names a proxy that cannot be used (HTTPS_PROXY, ALL_PROXY or "
                        "HTTP_PROXY): correct it, or unset it"
                    ) from None
                weakref.finalize(self, self._http.close)
            return self._http

    def _redirected(self, url: str, location: str) -> str:
        """Where a redirect leads, if that is the same server. Raises EmbedderError."""
        there = parts_of(urljoin(url, location))
        if there is None or not location:
            raise EmbedderError(f"{self.base_url} redirects to no address; {self._look_at_url()}")
        if not same_server(urlsplit(url), there):
            raise EmbedderError(
                f"{self.base_url} redirects to {origin(there)}, which is not sent the texts nor the key: "
                "give that address with --base-url if you trust it"
            )
        return there.geturl()

    def _refusal(self, status: int, body: str, headers: Any, key: str) -> EmbedderError:
        """The error for an answer that is not 200."""
        detail = _without(said(body), key)
        heard = f"HTTP {status}: {detail}" if detail else f"HTTP {status}"
        if status == 402 or (status in (403, 429) and any(word in body for word in _UNPAID)):
            return QuotaError(
                f"{self.base_url} wants to be paid ({heard}); add to the account, or name another endpoint "
                "with --base-url"
            )
        if status in (401, 403):
            remedy = "set it to a valid key" if key else "which is not set: set it"
            return CredentialsError(
                f"{self.base_url} {'refuses the key from' if key else 'wants a key, from'} {self._variable} "
                f"({heard}); {remedy}, or name another variable with --api-key-env"
            )
        if _TOO_LONG.search(detail):  # llama.cpp says so with 500
            return TooLongError(
                f"{self.base_url} finds a text too long ({heard}); build with a smaller --chars",
                *_limits(detail),
            )
        if status in (400, 413, 422):
            return RefusedTextError(
                f"{self.base_url} refuses a text ({heard}); correct it, or leave it out with "
                "`--on-bad-text skip`"
            )
        if status == 404 and "model" in detail.lower():
            return EmbedderError(
                f"{self.base_url} does not serve {self._model!r} ({heard}); have it loaded there "
                "(with Ollama: `ollama pull`), or name another with --model"
            )
        wait = retry_after(headers)
        if wait is not None and wait > MOST_PATIENCE:
            return EmbedderError(
                f"{self.base_url} wants no request for {wait / 60:,.0f} minutes ({heard}); give the same "
                "command again then"
            )
        if status == 429:
            return RateLimitedError(
                f"{self.base_url} wants fewer requests ({heard}); try again in some minutes, or with a lower "
                "`--rate`",
                retry_after=wait,
            )
        if status >= 500 or status in (408, 425):
            return ServiceError(
                f"{self.base_url} is failing ({heard}); see what its log says, or try again later",
                retry_after=wait,
            )
        return EmbedderError(f"{self.base_url} has no embeddings ({heard}); {self._look_at_url()}")

    def _look_at_url(self) -> str:
        """What may be wrong with the base URL."""
        if urlsplit(self.base_url).path:
            return "check --base-url"
        return f"is /v1 missing? try --base-url {self.base_url}/v1"


def said(body: str) -> str:
    """What the body of a refusal says, in one short line; '' for HTML and nothing."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = body
    for _ in range(2):  # {"error": {"message": …}} and its likes
        if isinstance(answer, dict):
            answer = next(
                (answer[name] for name in ("error", "message", "detail") if answer.get(name)), answer
            )
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    if text.lstrip().startswith("<"):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:2000]


def retry_after(headers: Any) -> float | None:
    """How many seconds an answer asks to wait: `retry-after-ms`, or Retry-After in seconds or as a date."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = str(headers.get(name, "")).strip()
        if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
            return float(value) / scale
        if value and scale == 1.0:
            try:
                return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
            except (TypeError, ValueError, OverflowError):
                return None
    return None


def _limits(detail: str) -> tuple[int, float]:
    """The limit and the share that fits, of a refusal like '… 8192 tokens, however you requested 10031 …'."""
    numbers = [int(number) for number in re.findall(r"\d{2,9}", detail)]
    if len(numbers) < 2 or min(numbers) == max(numbers):
        return 0, 0.5
    share = 0.95 * min(numbers) / max(numbers)  # the rest may have more tokens a character than the whole
    return min(numbers), max(0.05, min(0.9, share))


def _without(text: str, key: str) -> str:
    """The text, 200 characters of it, without the key and what looks like one."""
    if key:
        text = text.replace(key, "***")
    return _KEY.sub("***", text)[:200]
