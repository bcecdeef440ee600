"""What is around the program: settings that clients of the network cannot use, and libraries of extras."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from resizable_search.errors import RsearchError

_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_KEY_LOG = "SSLKEYLOGFILE"
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")


def unusable_setting(error: BaseException) -> str:
    """The variable that made a client fail with `error`, its value, and what to do; '' if none did.

    Clients name the file or the number alone, or a proxy with its password, which is left out here.
    """
    for name in _CERTIFICATES:
        if (value := os.environ.get(name)) and not _holds_certificates(value, name):
            return f"{name}={value} holds no certificates: correct it, or unset it"
    if log := os.environ.get(_KEY_LOG):
        try:
            open(log, "ab").close()
        except OSError as problem:
            return f"{_KEY_LOG}={log} cannot be written ({problem.strerror}): correct it, or unset it"
    for name in _PROXIES:
        if (value := os.environ.get(name)) and not _is_proxy(value):
            return f"{name}={without_user(value)} is no proxy that can be used: correct it, or unset it"
    if isinstance(error, ValueError):
        for name, value in os.environ.items():
            if value and repr(value) in str(error):
                return f"{name}={value} is not a number: correct it, or unset it"
    return ""


def without_user(url: str) -> str:
    """A URL, or what should be one, without user and password."""
    return re.sub(r"(?:(?<=//)|^)[^/@]*@", "", url)


def _holds_certificates(path: str, name: str) -> bool:
    import ssl

    is_folder = os.path.isdir(path) and name != "SSL_CERT_FILE"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which does not read SSLKEYLOGFILE
        context.load_verify_locations(capath=path if is_folder else None, cafile=None if is_folder else path)
    except OSError:
        return False
    return True


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        is_address = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    socks = parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is not None
    return is_address and (parts.scheme in ("http", "https") or socks)


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a library of an extra that cannot be imported into an error that says what to install."""
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.startswith("resizable_search"):
            raise
        command = f"`{install_command(extra)}`"
        raise RsearchError(f"{error.name} cannot be imported ({error}): run {command}") from None


def install_command(extra: str) -> str:
    """The command that installs an extra from where this package came: its folder, a URL or an index."""
    from importlib.metadata import distributions  # which takes long

    package = next(iter(distributions(name="resizable_search")), None)  # None: it was never installed
    origin = json.loads((package and package.read_text("direct_url.json")) or "{}")
    what, editable = f"resizable_search[{extra}]", ""
    if "dir_info" in origin:
        what = f"{unquote(urlsplit(origin['url']).path)}[{extra}]"
        editable = "-e " if origin["dir_info"].get("editable") else ""
    elif "url" in origin:
        vcs = origin.get("vcs_info", {}).get("vcs", "")
        what += f" @ {vcs}{'+' if vcs else ''}{origin['url']}"
    pip = f"{shlex.quote(sys.executable)} -m pip"
    if Path(shutil.which("pip") or "").parent == Path(sys.executable).parent:
        pip = "pip"
    return f"{pip} install {editable}{shlex.quote(what)}"
