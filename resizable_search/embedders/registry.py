"""The embedders by name, and the addresses that may get a key. This loads nothing heavy.

An index says where its queries are embedded, and anybody may have made it. So a key is sent to an address
only after the user named both together, in a build or a query, which a file beside the indexes records.
"""

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resizable_search.errors import (
    CredentialsError,
    EmbedderMismatchError,
    IndexFormatError,
    RsearchError,
    UsageError,
)
from resizable_search.specs import EmbedderSpec
from resizable_search.system import file_lock, replace_file
from resizable_search.text import clipped, quoted

if TYPE_CHECKING:
    from resizable_search.embedders.base import Embedder

BUILT_IN = {
    "wordllama": "resizable_search.embedders.wordllama:WordLlamaEmbedder",
    "nomic": "resizable_search.embedders.nomic:NomicEmbedder",
    "nomic-local": "resizable_search.embedders.nomic:NomicLocalEmbedder",
    "openai": "resizable_search.embedders.openai:OpenAIEmbedder",
    "sentence-transformers": "resizable_search.embedders.sentence_transformers:SentenceTransformersEmbedder",
    "lsa": "resizable_search.embedders.lsa:LsaEmbedder",
}
PRECOMPUTED = {"given": "resizable_search.embedders.base:PrecomputedEmbedder"}  # embeds nothing
GROUP = "resizable_search.embedders"  # the entry-point group: an embedder's name, and its class
LOCK_SECONDS = 10.0  # others hold the lock for milliseconds


def names() -> list[str]:
    """The names to choose from: our own, then those of installed packages."""
    others = sorted(point.name for point in entry_points(group=GROUP))
    return [*BUILT_IN, *(name for name in others if name not in BUILT_IN)]


def embedder_class(kind: str) -> "type[Embedder]":
    """The class of a kind. Raises UsageError for an unknown kind."""
    from resizable_search.embedders.base import Embedder

    if path := (BUILT_IN.get(kind) or PRECOMPUTED.get(kind)):
        module, _, name = path.partition(":")
        cls: Any = getattr(import_module(module), name)
    else:
        points = [point for point in entry_points(group=GROUP) if point.name == kind]
        if not points:
            raise UsageError(
                f"no embedder {quoted(kind)}: choose one of {', '.join(names())}, or install its package"
            )
        try:
            cls = points[0].load()
            if not (inspect.isclass(cls) and issubclass(cls, Embedder)):
                raise TypeError(f"{clipped(repr(cls))} is no Embedder")
        except Exception as error:  # another package may fail in any way
            raise UsageError(
                f"cannot load the embedder {quoted(kind)} ({type(error).__name__}: {error}): "
                "install its package again, or report it to its author"
            ) from error
    return cls  # type: ignore[no-any-return]  # of our own


def parameters(kind: str) -> Collection[str]:
    """The keywords of a kind's constructor. Raises UsageError for an unknown kind."""
    return inspect.signature(embedder_class(kind)).parameters


def create(
    kind: str, model: str | None = None, options: Mapping[str, str | int | None] | None = None
) -> "Embedder":
    """A new embedder. `options` are keywords of its constructor, None the default. Raises UsageError."""
    cls: Callable[..., Embedder] = embedder_class(kind)
    keywords = {"model": model, **(options or {})}
    keywords = {name: value for name, value in keywords.items() if value is not None}
    if unknown := [name for name in keywords if name not in parameters(kind)]:
        raise UsageError(
            f"embedder {kind!r} has no option `{unknown[0]}`: leave it out, or choose another `embedder`"
        )
    return cls(**keywords)


def reopen(spec: EmbedderSpec, state: Path) -> "Embedder":
    """The embedder of an index. `state` is the folder of a fitted one. Raises IndexFormatError."""
    cls: Any = embedder_class(spec.kind)
    if cls.needs_fit:
        return cls.load(state)  # type: ignore[no-any-return]  # the class is of our own
    problem = "it has other options"
    try:
        width = {"width": spec.width} if "width" in parameters(spec.kind) else {}  # else it may ask for it
        embedder: Embedder = cls(**{**spec.options, **width, "model": spec.model})
        if dict(embedder.spec.options) == dict(spec.options):
            return embedder
    except UsageError as error:
        problem = str(error)
    except RsearchError:
        raise
    except Exception as error:  # an option of a wrong type may cause anything
        problem = clipped(f"{type(error).__name__}: {error}")
    raise IndexFormatError(
        f"this rsearch's {spec.kind} embedder does not take the index's options ({problem}): "
        "upgrade rsearch, or build the index again"
    )


def embedder_of_vectors(
    model: str | None,
    kind: str | None,
    width: int,
    file: Path,
    options: Mapping[str, str | int | None] | None = None,
) -> "Embedder":
    """The embedder that made the (n, width) vectors of `file`. Raises UsageError, EmbedderMismatchError."""
    from resizable_search.embedders.base import UNKNOWN_MODEL, PrecomputedEmbedder
    from resizable_search.embedders.models import find

    if kind is None and model is not None:
        kind = next((known for known in BUILT_IN if model in embedder_class(known).known_models), None)
    if kind is None or kind == PrecomputedEmbedder.kind:
        return PrecomputedEmbedder(model=model or UNKNOWN_MODEL, width=width)
    if embedder_class(kind).needs_fit:
        raise UsageError(
            f"{kind} learns from the texts of a corpus, and cannot have made these vectors: "
            "leave `embedder` out, or name another"
        )
    arguments: dict[str, str | int | None] = dict(options or {})
    if model is not None and find(model) is None and "width" in parameters(kind):
        arguments["width"] = width  # otherwise only the model could tell
    embedder = create(kind, model, arguments)
    spec = embedder.spec
    if spec.width != width:
        raise EmbedderMismatchError(
            f"{file} holds vectors of {width} numbers, and those of {spec.model} have {spec.width}: "
            "give its full vectors, or name the model that made these (or none) with `model`"
        )
    return embedder


class TrustedEndpoints:
    """The pairs of address and variable that the user named, in the file at `path` (JSON)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, embedder: "Embedder") -> None:
        """Record that the user chose where this embedder sends its secret. Raises OSError."""
        pair = embedder.key_destination
        if pair is None or pair in self._pairs():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(self._path.with_name(f"{self._path.name}.lock")).acquire(LOCK_SECONDS):
            replace_file(self._path, json.dumps(sorted({*self._pairs(), pair}), indent=1).encode())

    def require(self, embedder: "Embedder", name: str) -> None:
        """Raise CredentialsError if the embedder of the index `name` would send a secret elsewhere."""
        pair = embedder.key_destination
        if pair is not None and pair not in self._pairs():
            address, variable = pair
            raise CredentialsError(
                f"{name} has its queries embedded at {address}, which would get the key in {variable}: "
                f"if you trust it, use `query base_url={address} api_key_env={variable}` once, "
                f"else unset {variable}"
            )

    def _pairs(self) -> set[tuple[str, str]]:
        try:
            pairs = json.loads(self._path.read_bytes())
            return {(str(address), str(variable)) for address, variable in pairs}
        except (OSError, ValueError, TypeError):  # an unreadable file trusts nobody
            return set()
