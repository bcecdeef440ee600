"""What a build starts from: options that the command line leaves out are those of the index that exists."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resizable_search.build.workspace import BuildOptions, by_option, check_name, choose_dims
from resizable_search.corpora.chunking import chunking_of
from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder, PrecomputedEmbedder
from resizable_search.errors import RsearchError
from resizable_search.specs import EmbedderSpec, Json
from resizable_search.store.layout import NAMES, Home, unfinished_build
from resizable_search.store.manifest import read_manifest

_OF_MODEL = ("document_prefix", "query_prefix", "width", "centred", "served_as", "load_from")
_OF_ADDRESS = ("api_key_env", "encoding_format")


@dataclass(frozen=True, slots=True)
class EarlierBuild:
    """The corpus and the embedder of an index, or of a build that is not finished."""

    corpus: Mapping[str, Json]
    kind: str
    spec: EmbedderSpec | None = None  # None: only the embedder's `kind` is known
    dims: tuple[int, ...] | None = None  # None: the standard ones
    restarts: bool = False

    @classmethod
    def find(cls, home: Home, options: BuildOptions) -> "EarlierBuild | None":
        """What the next build of this name starts from, if anything readable. Raises UsageError."""
        check_name(options.name)
        folder, unfinished = home.index(options.name), home.building(options.name)
        begun = None if options.restart else unfinished_build(unfinished)
        if begun is None or not begun.replaces:
            with suppress(RsearchError, OSError):
                manifest = read_manifest(folder if folder.exists() else unfinished / NAMES.replaced)
                spec, full = EmbedderSpec.from_json(manifest.embedder), manifest.full_dim
                if spec.kind == PrecomputedEmbedder.kind:
                    return None
                dims = tuple(dim for dim in manifest.dims if dim < full)
                is_usual = not options.restart or manifest.dims == choose_dims(None, full)
                return cls(manifest.corpus, spec.kind, spec, None if is_usual else dims, options.restart)
        request = begun.request if begun else None
        if request is None or "embedder" not in request:
            return None
        return cls(request, request["embedder"], None, request.get("dims") and tuple(request["dims"]))

    def corpus_options(
        self, same: Mapping[str, Json], asked: Mapping[str, Any], given: Collection[str]
    ) -> dict[str, Any]:
        """The keywords of the corpus: the `given` ones as `asked`, the others as of the earlier build.

        `same`: the part of the spec that both have if they are one corpus; if not, all are as asked.
        """
        if any(self.corpus.get(name) != value for name, value in same.items()):
            return dict(asked)
        stored = by_option(self.corpus)
        if self.restarts:
            stored.pop("revision", None)  # a new index reads the newest one
        options = {name: stored[name] for name in asked if name in stored}
        if "chunk" in given and str(chunking_of(asked["chunk"])) != str(stored.get("chunk")):
            # How much of a text is read, and how, depends on the chunks.
            given = {*given, "chunk_overlap", "chars", *(asked.keys() - stored.keys())}
        return {**options, **{name: asked[name] for name in given if name in asked}}

    def embedder(
        self, home: Home, name: str, model: str | None, options: Mapping[str, str | int | None]
    ) -> Embedder:
        """The embedder of the index `name`, but with this `model` and `options` where they are not None.

        Raises UsageError, IndexFormatError, and CredentialsError for an address that nobody named here.
        """
        given = {option: value for option, value in options.items() if value is not None}
        spec = self.spec
        if spec is None or registry.embedder_class(self.kind).needs_fit:
            return registry.create(self.kind, model, given)
        if model is None and not given and not self.restarts:
            embedder = registry.reopen(spec, Path())
        else:
            changed: tuple[str, ...] = _OF_MODEL if model not in (None, spec.model) else ()
            changed += _OF_ADDRESS if "base_url" in given else ()
            stored = {option: value for option, value in spec.options.items() if option not in changed}
            embedder = registry.create(self.kind, model or spec.model, {**stored, **given})
        if "base_url" not in given:
            registry.TrustedEndpoints(home.trusted).require(embedder, name)
        return embedder
