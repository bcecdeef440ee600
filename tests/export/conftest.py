"""An index of several parts with deleted rows, to be exported."""

from dataclasses import replace

import numpy as np
import pytest

from resizable_search.build.delete import delete
from resizable_search.store.layout import Home
from tests.build.changes.conftest import WIDTH, Place
from tests.support import TableEmbedder, articles

METADATA = {"year": 1984, "tags": "ä,ö", "id": "not the document's"}


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Place:
    """300 rows in two parts, 5 of them deleted; one text is long, one document has metadata. Only read it."""
    index = Place(Home(tmp_path_factory.mktemp("exported") / "home"))
    documents = articles(300)
    documents[4] = replace(documents[4], metadata=METADATA, title="Ünïcode\n\x1b[31m")
    documents[5] = replace(documents[5], text="long " * 20_000)
    index.parts(documents, 200, 300)
    delete(index.folder, ["a0", "a7", "a199", "a200", "a299"])
    return index


@pytest.fixture(scope="session")
def rows(made):
    """How the rows that can be found are at a dimension: ids, and (295, dim) float32."""
    embedder = TableEmbedder(width=WIDTH)

    def of(dim: int) -> tuple[list[str], np.ndarray]:
        with made.open() as index:
            documents = index.documents(index.live_rows())
            raw = np.stack([embedder.vector(document.text) for document in documents])
        cut = raw[:, :dim].astype(np.float64)
        return [d.id for d in documents], (cut / np.linalg.norm(cut, axis=1)[:, None]).astype(np.float32)

    return of
