"""Any model of the hub or of a folder on this machine, run by sentence-transformers, on a GPU if it can.

Prefixes come from the model's own prompts for documents and queries, else from its card (`models`).
"""

import itertools
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders import models
from resizable_search.embedders.base import Embedder, Task, checked
from resizable_search.embedders.http import root_cause
from resizable_search.environment import install_command
from resizable_search.errors import EmbedderError, UsageError
from resizable_search.specs import EmbedderSpec

MODEL_BATCH = 32  # texts that the model computes at once, out of a call's texts sorted by length

PROMPTS = {
    "search_document": ("document", "passage", "corpus", "search_document", "retrieval.passage", "doc"),
    "search_query": ("query", "search_query", "retrieval.query", "s2p_query", "web_search_query"),
}  # the names of models' prompts for each task, the usual one first


class SentenceTransformersEmbedder(Embedder):
    """A model in a folder, or of the hub and downloaded on first use. None means the model's own value."""

    kind: ClassVar[str] = "sentence-transformers"
    loads_slowly: ClassVar[bool] = True
    batch_size = 64

    def __init__(
        self,
        *,
        model: str | None = None,
        document_prefix: str | None = None,
        query_prefix: str | None = None,
        load_from: str | None = None,
        width: int | None = None,
        centred: bool | None = None,
    ) -> None:
        if not model:
            raise UsageError(
                "the sentence-transformers embedder needs `model`: a folder, or a name of the hub such as "
                "sentence-transformers/all-MiniLM-L6-v2"
            )
        folder = os.path.expanduser(model)
        if load_from is None and os.path.isdir(folder):
            load_from = os.path.abspath(folder)
            path = Path(load_from)  # of the hub's cache: models--ORG--NAME/snapshots/REVISION
            is_snapshot = path.parent.name == "snapshots"
            name = path.parent.parent.name.rpartition("--")[2] if is_snapshot else path.name
            model = models.canonical(name)
        elif load_from is None:
            load_from, model = model, models.canonical(model)
        self._load_from = load_from
        self._model = model
        self._card = models.find(model) or models.ModelCard(model, 0, 0)
        self._prefixes = {"search_document": document_prefix, "search_query": query_prefix}
        self._width = width
        self._centred = self._card.centred if centred is None else centred
        self._loaded: Any = None
        self._cuts = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def spec(self) -> EmbedderSpec:
        """The model, its prefixes and its width. May load the model to read them."""
        prefixes = {task: self._prefix(task) for task in PROMPTS}
        width = self._width or self._model_width()
        options = {"load_from": self._load_from}
        return models.spec_of(self.kind, self._model, width, prefixes, self._centred, options)

    def check(self) -> str:
        """Load the model; where it runs."""
        return f"{self._model} runs on {self._ready().device}"

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """Embed up to 64 texts: (n, width) float32. The model, loaded first, cuts texts that are too long."""
        prefix, model = self._prefix(task), self._ready()
        encode = model.encode_query if task == "search_query" else model.encode_document
        try:
            rows = encode(list(texts), prompt=prefix, batch_size=MODEL_BATCH, show_progress_bar=False)
            self._note_cuts([prefix + text for text in texts], model)
        except Exception as error:
            raise EmbedderError(
                f"{self._model} cannot embed: {root_cause(error)}; free memory, or choose a smaller `model`"
            ) from error
        self._width = self._width or self._model_width()
        return checked(rows, len(texts), self._width, self._model)

    def _note_cuts(self, texts: Sequence[str], model: Any) -> None:
        """Tell of texts that are too long: the library cuts them without a word."""
        limit = model.max_seq_length or math.inf
        long = [text for text in texts if len(text.encode("utf-8", "replace")) > limit]
        if not long or not callable(model.tokenizer):
            return
        for tokens in model.tokenizer(long, truncation=False, verbose=False)["input_ids"]:
            if len(tokens) > limit:
                self.note_cut(self._model, f"{limit:,} of its {len(tokens):,} tokens")

    def _prefix(self, task: str) -> str:
        if (prefix := self._prefixes[task]) is None:
            prefix = self._prefixes[task] = prompts_of(self._ready().prompts, self._card)[task]
        return prefix

    def _model_width(self) -> int:
        width = self._ready().get_embedding_dimension()
        if not isinstance(width, int):
            raise EmbedderError(f"{self._model} makes no vectors of texts: choose another `model`")
        return width

    def _ready(self) -> Any:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._load_from)
            return self._loaded


def prompts_of(prompts: Mapping[str, str], card: models.ModelCard) -> dict[str, str]:
    """Each task's prefix: the model's prompts, or the card's if all are empty, as the library adds them."""
    prefixes = {
        task: next((prompts[name] for name in names if prompts.get(name)), "")
        for task, names in PROMPTS.items()
    }
    if any(prefixes.values()):
        return prefixes
    return {"search_document": card.document_prefix, "search_query": card.query_prefix}


def _load(where: str) -> Any:
    """Load a model without progress bars and warnings. Raises EmbedderError."""
    try:
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # loaded lazily
        from huggingface_hub.utils import logging as hub_logging
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ImportError as error:
        raise EmbedderError(
            f"cannot import sentence-transformers ({root_cause(error)}): "
            f"`{install_command('sentence-transformers')}`, or choose another `embedder`"
        ) from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # untyped there
    disable_progress_bars()
    try:
        return SentenceTransformer(where)
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise EmbedderError(
                f"{where} brings its own code, which rsearch does not run: serve it and use "
                "`embedder=openai`, or choose another `model`"
            ) from error
        problem = f"cannot load {where}: {root_cause(error)}; check `model`, and the network for a download"
        raise EmbedderError(problem) from error
