"""The embedders by name: a dict of import paths (kinds.py), and an entry-point group for those of others.

Looking imports nothing heavy: a class is imported when it is made, and its libraries when it embeds.
"""

import inspect
from collections.abc import Collection, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from resizable_search.embedders.base import Embedder
from resizable_search.embedders.kinds import BUILT_IN, GROUP, KEPT, names
from resizable_search.errors import IndexFormatError, RsearchError, UsageError
from resizable_search.specs import EmbedderSpec
from resizable_search.text import clipped, quoted


def embedder_class(kind: str) -> type[Embedder]:
    """The class of a kind. Raises UsageError for one that there is not."""
    if place := (BUILT_IN.get(kind) or KEPT.get(kind)):
        module, _, name = place.partition(":")
        found: Any = getattr(import_module(module), name)
    else:
        points = [point for point in entry_points(group=GROUP) if point.name == kind]
        if not points:
            raise UsageError(
                f"no embedder {quoted(kind)}: choose one of {', '.join(names())}, or install what adds it"
            )
        try:
            found = points[0].load()
        except Exception as error:  # another's package may fail in any way
            raise UsageError(
                f"embedder {quoted(kind)} cannot be loaded ({type(error).__name__}: {error}): "
                "install its package again, or tell its author"
            ) from error
    if not (inspect.isclass(found) and issubclass(found, Embedder)):
        raise UsageError(
            f"embedder {quoted(kind)} is no Embedder: tell the author of the package that adds it"
        )
    cls: type[Embedder] = found
    return cls


def kind_of(model: str) -> str | None:
    """The built-in kind that knows a model by this name, or None."""
    for kind in BUILT_IN:
        if model in embedder_class(kind).known_models:
            return kind
    return None


def parameters(kind: str) -> Collection[str]:
    """What the constructor of a kind takes. Raises UsageError for one that there is not."""
    return inspect.signature(embedder_class(kind)).parameters


def create(
    kind: str, model: str | None = None, options: Mapping[str, str | int | None] | None = None
) -> Embedder:
    """A new embedder of a kind, for a model or its default. Raises UsageError.

    `options` are further keywords of its constructor, such as `base_url`; None is what it takes anyway.
    """
    cls: Any = embedder_class(kind)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    if model is not None:
        given["model"] = model
    known = parameters(kind)
    if "model" in given and "model" not in known:
        raise UsageError(f"embedder {kind!r} has no models to choose from: leave --model out")
    for name in given:
        if name not in known:
            option = name.replace("_", "-")
            raise UsageError(
                f"embedder {kind!r} has no --{option}: leave it out, or choose another --embedder"
            )
    made: Embedder = cls(**given)
    return made


def reopen(spec: EmbedderSpec, state: Path) -> Embedder:
    """The embedder that an index was built with; `state` is where a fitted one keeps its own."""
    cls: Any = embedder_class(spec.kind)
    if cls.needs_fit:
        loaded: Embedder = cls.load(state)
        return loaded
    try:
        made: Embedder = cls(**{**spec.options, "model": spec.model})
        takes = dict(made.spec.options) == dict(spec.options)
        why = "it knows others"
    except UsageError as error:  # said of an option of a command, which is not what is wrong here
        takes, why = False, str(error)
    except RsearchError:
        raise
    except Exception as error:  # what an option of a wrong type comes to, nobody knows
        takes, why = False, clipped(f"{type(error).__name__}: {error}")
    if not takes:
        raise IndexFormatError(
            f"this rsearch's {spec.kind} embedder does not take the index's options ({why}): "
            "upgrade rsearch, or build again with --restart"
        )
    return made
