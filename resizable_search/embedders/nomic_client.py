"""The seam to Nomic's client: whose key it sends, how long it is waited for, and what its failures mean.

The client has no time-out, reads its key from the login file alone, raises bare exceptions and logs a
refused key to stderr. What it does well, it goes on doing: its headers, its parsing, its back-off.
"""

import functools
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from resizable_search.embedders.request_pool import call_with_deadline
from resizable_search.errors import (
    CredentialsError,
    EmbedderError,
    QuotaError,
    RateLimitedError,
    RefusedTextError,
    ServiceError,
)

KEY_VARIABLE = "NOMIC_API_KEY"
ADDRESS_VARIABLE = "ATLAS_API_PATH"

NO_CREDENTIALS = (
    f"no Nomic credentials: run `nomic login`, set {KEY_VARIABLE}, "
    "or build with `--embedder lsa`, which needs none"
)

T = TypeVar("T")


@dataclass(slots=True)
class Call:
    """One call of the client, which may send its request several times.

    `before_repeat` is called before each but the first. Once it is `over`, given up by who waited
    for it, nothing more is sent.
    """

    before_repeat: Callable[[], None] | None = None
    over: bool = False
    sent: int = 0

    def sending(self) -> None:
        """A request is about to be sent. Raises ServiceError to have it not sent."""
        self.sent += 1
        if self.over:
            raise ServiceError("the call was given up; try again later")
        if self.sent > 1 and self.before_repeat is not None:
            self.before_repeat()


class _Header(dict[str, str]):
    """The header of a call's requests. `requests` asks it for its items each time that one is sent."""

    def __init__(self, header: dict[str, str], call: Call | None) -> None:
        super().__init__(header)
        self._call = call

    def items(self) -> Any:
        if self._call is not None:
            self._call.sending()
        return super().items()


@functools.cache
def client_class() -> Callable[[], Any]:
    """The client's AtlasClass with NOMIC_API_KEY before the login file.

    Defined on first use: importing nomic takes more than a second.
    """
    import nomic.cli
    from loguru import logger
    from nomic.dataset import AtlasClass

    logger.disable("nomic")  # a refused key is logged to stderr; here it is an error of its own

    class Client(AtlasClass):  # type: ignore[misc]  # nomic is untyped to mypy
        def __init__(self) -> None:
            key = os.environ.get(KEY_VARIABLE, "").strip()
            self.key_source = KEY_VARIABLE if key else str(nomic.cli.nomic_base_path / "credentials")
            from_key: dict[str, Any] = {"token": key, "tenant": "production", "expires": None}
            self._credentials = from_key if key else self._login()
            self.calls = threading.local()
            # a header with other characters is refused by an error that quotes it
            if not re.fullmatch(r"[!-~]+", self._credentials["token"]):
                raise CredentialsError(
                    f"{self.key_source} holds a key with characters that no key has; "
                    f"run `nomic login` again, or set {KEY_VARIABLE} to the key alone"
                )
            super().__init__()

        @property
        def header(self) -> dict[str, str]:
            return _Header(self._header, getattr(self.calls, "now", None))

        @header.setter
        def header(self, value: dict[str, str]) -> None:
            self._header = value

        @property
        def credentials(self) -> dict[str, Any]:
            return self._credentials

        def _login(self) -> dict[str, Any]:
            remedy = f"run `nomic login` again, or set {KEY_VARIABLE}"
            try:
                login: dict[str, Any] = super().credentials
                domains = ("api_domain", "frontend_domain") if login["tenant"] == "enterprise" else ()
                usable = login["tenant"] in {"production", "staging", "enterprise"} and all(
                    isinstance(login[name], str) for name in ("token", *domains)
                )
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
                usable = False
            except (PermissionError, IsADirectoryError):
                raise CredentialsError(f"{self.key_source} cannot be opened; {remedy}") from None
            except ValueError:
                raise CredentialsError(NO_CREDENTIALS) from None
            except Exception:  # bare ones, and those of a request whose address holds a token
                raise CredentialsError(
                    f"the login in {self.key_source} has expired and could not be renewed; {remedy}"
                ) from None
            if not usable:
                raise CredentialsError(f"{self.key_source} is damaged; {remedy}")
            return login

    return Client


def told(function: Callable[[], T], seconds: float, client: Any = None) -> T:
    """Call the client within `seconds`, and raise its failures as EmbedderErrors.

    They are raised without their cause: a body or an address in it may hold a secret.
    """
    import requests

    address = _address(client)
    try:
        return call_with_deadline(function, seconds, address)
    except EmbedderError:
        raise
    except requests.exceptions.JSONDecodeError:
        raise ServiceError(
            f"{address} answered something that is not JSON; {_remedy()}, and look for a proxy in between"
        ) from None
    except (
        requests.exceptions.MissingSchema,
        requests.exceptions.InvalidSchema,
        requests.exceptions.InvalidURL,
    ):
        raise EmbedderError(
            f"{address} is no address; set {ADDRESS_VARIABLE} to one like http://127.0.0.1:8000, or unset it"
        ) from None
    except requests.exceptions.RequestException as error:
        address = _address(client, getattr(error.request, "url", None) or "")
        raise ServiceError(f"cannot reach {address}: {reason(error)}; {_remedy()}") from None
    except Exception as error:
        match error.args:
            case ((int() as status, str() as body),):
                raise refusal(status, body, client) from None
        if type(error) is Exception:  # what the client raises when /v1/user is answered with 5xx
            raise ServiceError(f"{address} is failing; {_remedy()}") from None
        raise


def refusal(status: int, body: str, client: Any) -> EmbedderError:
    """The error for an answer that is not 200."""
    said = f"HTTP {status}{_detail(body, client.token)}"
    if status in (401, 403):
        return CredentialsError(
            f"Nomic refuses the key from {client.key_source} ({said}); "
            f"run `nomic login` and unset {KEY_VARIABLE}, or set it to a valid key"
        )
    if status == 402:
        return QuotaError(
            f"the quota of the Nomic account is used up ({said}); "
            "add to it at https://atlas.nomic.ai, or build with `--embedder lsa`, which costs nothing"
        )
    if status in (400, 413, 422):
        return RefusedTextError(
            f"Nomic refuses a text ({said}); correct it, or leave it out with `--on-bad-text skip`"
        )
    if status == 429:
        return RateLimitedError(
            f"Nomic wants fewer requests ({said}); try again in some minutes, or with a lower `--rate`"
        )
    if status >= 500 or status in (408, 425):
        return ServiceError(f"{_address(client)} is failing ({said}); {_remedy()}")
    return EmbedderError(f"{_address(client)} does not take the request ({said}); {_remedy()}")


def _detail(body: str, token: str) -> str:
    """What a body says, as ': …' in one short line without the key; '' for HTML and nothing."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = body
    if isinstance(answer, dict):
        answer = next((answer[name] for name in ("detail", "message", "error") if name in answer), answer)
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    if text.lstrip().startswith("<"):
        return ""
    text = re.sub(rf"{re.escape(token)}|nk-[\w-]+", "***", text, flags=re.IGNORECASE)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f": {text[:200]}" if text else ""


def reason(error: BaseException) -> str:
    """What lies at the bottom of an error, in one short line: 'Connection refused'."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    said = str(getattr(error, "strerror", None) or error)
    return " ".join(said.split())[:200] or type(error).__name__


def _address(client: Any, failed: str = "") -> str:
    """The service as a message names it; `failed` is the URL of a request, if that is all there is."""
    override = os.environ.get(ADDRESS_VARIABLE)
    url = client.atlas_api_path if client is not None else override or failed.partition("/v1/")[0]
    named = shown(url) or "Nomic's service"
    return f"{named} ({ADDRESS_VARIABLE})" if override else named


def shown(url: str) -> str:
    """A URL without user and password."""
    return re.sub(r"//[^/@]*@", "//", url)


def _remedy() -> str:
    if os.environ.get(ADDRESS_VARIABLE):
        return f"check {ADDRESS_VARIABLE}, or try again later"
    return "check the network connection, or try again later"
