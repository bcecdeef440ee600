"""The request layer of embedders that ask a service: addresses, keys, time limit, requests, errors.

`RemoteService` words every error of a service. `Endpoint` posts JSON with httpx2: OpenAI's client would hide
status and headers behind retries of its own, follow redirects and demand a key. Nomic's client sends its own
requests, and shares the rest. No redirect is followed: the key goes only to the address that the user named.
"""

import json
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from resizable_search import __version__
from resizable_search.environment import unusable_setting, without_user
from resizable_search.errors import (
    CredentialsError,
    EmbedderError,
    QuotaError,
    RateLimitedError,
    RefusedTextError,
    ServiceError,
    UsageError,
    causes,
)

T = TypeVar("T")

MAX_RETRY_AFTER = 600.0  # seconds of a Retry-After that are worth waiting for
ERRORS: Mapping[int, type[EmbedderError]] = {
    400: RefusedTextError,
    401: CredentialsError,
    402: QuotaError,
    403: CredentialsError,
    408: ServiceError,
    409: ServiceError,  # a model that is still being loaded
    413: RefusedTextError,
    422: RefusedTextError,
    424: ServiceError,
    425: ServiceError,
    429: RateLimitedError,
    499: ServiceError,  # nginx: the connection was closed
    501: EmbedderError,  # llama.cpp without --embeddings
}  # The error of each status. Others are a ServiceError from 500 on, else an EmbedderError
_UNPAID = ("insufficient_quota", "billing_not_active", "billing_hard_limit_reached")
_MEASURES = re.compile(
    r"token|tensor|context|sequence|seq_len|n_ctx|character|payload|input|text|prompt|长", re.IGNORECASE
)
_EXCESS = re.compile(
    r"exceed|overflow|longer than|too[ _](?:large|long|many)|(?:less|larger) than|at most|\bmax|up to"
    r"|range of|must match|[<>]=? \w|context (?:length|size|window)|physical batch size|超|过长",
    re.IGNORECASE,
)  # a text is too long by a message of which both match: what is measured, and that it is too much
_OF_MODEL = re.compile(r"tokens?\b|tensor|context|sequence|n_ctx|physical batch size", re.IGNORECASE)
_TOO_MANY = re.compile(r"batch size \d|batch size is|too many (?:inputs|requests)|list should", re.IGNORECASE)
_LIKE_A_KEY = r"sk-[\w*.-]+|nk-[\w-]+"


class TooLongError(RefusedTextError):
    """A text is too long: by the `detail`, `limit` tokens fit (0: unknown), so `share` of it may fit."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.limit, self.share = 0, 0.5
        # '… 8192 tokens, however you requested 10031 …'
        numbers = [int(number) for number in re.findall(r"\d{2,9}", detail)]
        if len(numbers) > 1 and min(numbers) < max(numbers):
            self.limit = min(numbers)
            # The part may have more tokens per character than the whole.
            self.share = max(0.05, min(0.9, 0.95 * self.limit / max(numbers)))


@dataclass(frozen=True, slots=True)
class RemoteService:
    """What errors say of a service, and what to do about its failures. They never show `key`."""

    name: str
    model: str
    key: str
    key_source: str
    key_remedy: str
    quota_remedy: str
    address_remedy: str
    down_remedy: str
    has_answered: bool = False  # well before, so that it may find again what it does not find (404)

    def error(self, status: int, body: str, headers: Mapping[str, str] | None = None) -> EmbedderError:
        """The error for an answer whose status is not 200."""
        detail = self.redacted(message_in(body))
        answer = f"HTTP {status}: {detail}" if detail else f"HTTP {status}"
        may_pass = status >= 500 or (status == 404 and self.has_answered)
        kind = ERRORS.get(status, ServiceError if may_pass else EmbedderError)
        if status in (403, 429) and any(code in body for code in _UNPAID):
            kind = QuotaError
        elif kind not in (CredentialsError, QuotaError) and _is_too_long(status, detail):
            message = f"{self.name} finds a text too long ({answer}); build with a smaller `chars`"
            return TooLongError(message, detail)
        unset = f"wants a key in {self.key_source}, which is not set"
        key = f"refuses the key from {self.key_source}" if self.key else unset
        what, remedy = {
            CredentialsError: (key, self.key_remedy),
            QuotaError: ("says that the quota is used up", self.quota_remedy),
            RateLimitedError: ("wants fewer requests", "try again in some minutes, or with a lower `rate`"),
            ServiceError: ("is failing", self.down_remedy),
            RefusedTextError: ("refuses a text", "correct the text, or skip it with `on_bad_text=skip`"),
            EmbedderError: ("does not take the request", self.address_remedy),
        }[kind]
        if kind is EmbedderError and status == 404 and "model" in detail.lower():
            what = f"does not serve {self.model!r}"
            remedy = "load it there (with Ollama: `ollama pull`), or name another with `model`"
        seconds = retry_after(headers or {})
        if not issubclass(kind, ServiceError):
            return kind(f"{self.name} {what} ({answer}); {remedy}")
        if seconds is not None and seconds > MAX_RETRY_AFTER:
            return EmbedderError(
                f"{self.name} wants no request for {seconds / 60:,.0f} minutes ({answer}); try again then"
            )
        return kind(f"{self.name} {what} ({answer}); {remedy}", retry_after=seconds, status=status)

    def unreachable(self, error: Exception) -> ServiceError:
        """The error for a connection that failed."""
        problem = f"cannot reach {self.name}: {self.redacted(root_cause(error))}; {self.down_remedy}"
        return ServiceError(problem)

    def not_json(self) -> ServiceError:
        """The error for an answer of status 200 that cannot be parsed."""
        return ServiceError(
            f"{self.name} answered something that is not JSON; {self.address_remedy}, "
            "or look for a proxy in between"
        )

    def no_address(self) -> EmbedderError:
        """The error for an address that cannot be one."""
        problem = f"{self.name} is no address, such as http://127.0.0.1:8000; {self.address_remedy}"
        return EmbedderError(problem)

    def redacted(self, text: str) -> str:
        """The beginning of a text without the key, and without what looks like one."""
        pattern = f"{re.escape(self.key)}|{_LIKE_A_KEY}" if self.key else _LIKE_A_KEY
        return re.sub(pattern, "***", text, flags=re.IGNORECASE)[:200]


@dataclass
class Endpoint:
    """`POST {base_url}/embeddings` with the key in a variable; for any thread."""

    base_url: str
    variable: str
    model: str
    needs_key: bool
    has_answered: bool = False

    def key(self) -> str:
        """The key, '' if there is none. Raises CredentialsError."""
        return checked_key(os.environ.get(self.variable, "").strip(), self.variable, self.variable)

    def post(self, body: dict[str, Any], timeout: float) -> Any:
        """The parsed answer to one request within `timeout` seconds. Raises EmbedderError."""
        key = self.key()
        if self.needs_key and not key:
            raise CredentialsError(
                f"no key for {self.base_url}: set {self.variable}, or name another variable with "
                "`api_key_env` or another endpoint with `base_url`"
            )
        v1 = f"is /v1 missing? try `base_url={self.base_url}/v1`"
        service = RemoteService(
            name=self.base_url,
            model=self.model,
            key=key,
            key_source=self.variable,
            key_remedy="set it to a valid key, or name another variable with `api_key_env`",
            quota_remedy="add to the account, or name another endpoint with `base_url`",
            address_remedy="check `base_url`" if urlsplit(self.base_url).path else v1,
            down_remedy="check that the server runs, or try again later",
            has_answered=self.has_answered,
        )
        answer = call_with_timeout(lambda: self._post(body, service, timeout), timeout, self.base_url)
        self.has_answered = True
        return answer

    def _post(self, body: dict[str, Any], service: RemoteService, timeout: float) -> Any:
        import httpx2

        headers = {"Content-Type": "application/json", "User-Agent": f"rsearch/{__version__}"}
        if service.key:
            headers["Authorization"] = f"Bearer {service.key}"
        try:
            answer = self._client.post(
                f"{self.base_url}/embeddings",
                content=json.dumps(body).encode(),
                headers=headers,
                timeout=timeout,  # ends a thread that nobody waits for any more
            )
        except httpx2.InvalidURL:
            raise service.no_address() from None
        except httpx2.HTTPError as error:
            raise service.unreachable(error) from None
        if answer.has_redirect_location:
            address = without_user(str(answer.next_request.url)).partition("?")[0]
            raise EmbedderError(
                f"{service.name} redirects to {service.redacted(address.removesuffix('/embeddings'))}, which "
                "is not sent the texts nor the key: give that address with `base_url` if you trust it"
            )
        if not answer.is_success:
            raise service.error(answer.status_code, answer.text, answer.headers)
        try:
            found = json.loads(answer.content)
        except ValueError:
            raise service.not_json() from None
        if isinstance(found, dict) and found.get("error"):  # a gateway sends its own status before it knows
            code = found["error"].get("code") if isinstance(found["error"], dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 500
            raise service.error(status, answer.text, answer.headers)
        return found

    @cached_property
    def _client(self) -> Any:
        import httpx2

        try:
            client = httpx2.Client(
                follow_redirects=False,  # the key must not travel
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=32),
                trust_env=not is_local(self.base_url),  # no proxy leads back to this machine
            )
        except (ValueError, ImportError, OSError, httpx2.InvalidURL) as error:
            words = unusable_setting(error)
            if isinstance(error, OSError) and not words:
                raise
            # The error itself may quote a proxy's password.
            raise EmbedderError(words or "a proxy in the environment cannot be used: unset it") from None
        weakref.finalize(self, client.close)  # also that of a thread that lost a race
        return client


def call_with_timeout(function: Callable[[], T], timeout: float, who: str = "the service") -> T:
    """What `function` returns or raises, called in a daemon thread; ServiceError after `timeout` seconds."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # raised again in the caller's thread
            outcome.set_exception(error)

    # It cannot be cancelled while it hangs in a socket: it is left alone, and its outcome is dropped.
    threading.Thread(target=run, name="rsearch-timeout", daemon=True).start()
    if not wait([outcome], timeout=timeout).done:
        raise ServiceError(f"{who} did not answer within {timeout:g} s; try again later")
    return outcome.result()


def _is_too_long(status: int, detail: str) -> bool:
    """Whether a refusal, which servers word as they like, is of a text's length."""
    if status == 429:
        return "request too large" in detail.lower()
    if status >= 500 and not _OF_MODEL.search(detail):  # llama.cpp says so with 500
        return False
    return bool(_MEASURES.search(detail) and _EXCESS.search(detail)) and not _TOO_MANY.search(detail)


def message_in(body: str) -> str:
    """The message in the body of a refusal, as one short line; '' for HTML and an empty body."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = body
    for _ in range(2):  # {"error": {"message": …}} and similar forms
        if isinstance(answer, dict):
            named = (answer[name] for name in ("error", "message", "detail") if answer.get(name))
            answer = next(named, answer)
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    if re.match(r"\s*<[!?a-z]", text, re.IGNORECASE):  # not the "<400> …" of DashScope
        return ""
    text = text.replace("`", "'")  # backquotes are for our own option names
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:2000]


def root_cause(error: BaseException) -> str:
    """The first cause of an error, in one short line: 'Connection refused'."""
    *_, first = causes(error)
    text = str(getattr(first, "strerror", None) or first)
    return " ".join(text.split())[:200].rstrip(".") or type(first).__name__


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds to wait by `retry-after`, which is a number of seconds or a date."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def checked_key(key: str, source: str, variable: str) -> str:
    """The key. Raises CredentialsError if no header can hold it: httpx2's own error would quote it."""
    if not re.fullmatch(r"[!-~]*", key):
        problem = f"the key from {source} has characters that no key has; set {variable} to the key alone"
        raise CredentialsError(problem)
    return key


def checked_url(url: str) -> str:
    """A base URL for an index, without `/embeddings`, and without what may be secret. Raises UsageError."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and not re.search(r"\s", url)
        _ = parts.port  # raises if it is no number
    except ValueError:
        is_address = False
    if not is_address:
        raise UsageError(
            f"`base_url`: {without_user(url)[:80]!r} is no address; use one like http://127.0.0.1:11434/v1"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            "`base_url` must have no user, password, query or fragment, since the index stores it: remove "
            "them, and name the variable that holds the key with `api_key_env`"
        )
    path = parts.path.rstrip("/").removesuffix("/embeddings").rstrip("/")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def is_local(url: str) -> bool:
    """Whether an address is this machine."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
