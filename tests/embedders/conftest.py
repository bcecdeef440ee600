import sys
from types import ModuleType, SimpleNamespace

import nomic.embed
import pytest


class FakeGpt4all(ModuleType):
    """gpt4all as far as the client and the embedder use it."""

    def __init__(self):
        super().__init__("gpt4all")
        self.fetched = []
        self.loaded = []
        self.calls = []
        self.fetch_error = self.load_error = None
        self.width = 768
        fake = self

        class Embed4All:
            def __init__(self, name, **options):
                fake.fetched.append(name)
                if fake.fetch_error:
                    raise fake.fetch_error
                fake.loaded.append(name)
                if fake.load_error:
                    raise fake.load_error
                self.gpt4all = SimpleNamespace(config={"filename": name})

            def embed(self, texts, **options):
                fake.calls.append((texts, options))
                rows = [[float(len(text.encode()))] * fake.width for text in texts]
                return {"embeddings": rows, "n_prompt_tokens": 1}

            def close(self):
                pass

        self.Embed4All = Embed4All


@pytest.fixture
def gpt4all(monkeypatch):
    fake = FakeGpt4all()
    monkeypatch.setitem(sys.modules, "gpt4all", fake)
    monkeypatch.setattr(nomic.embed, "Embed4All", fake.Embed4All)
    monkeypatch.setattr(nomic.embed, "CancellationError", InterruptedError, raising=False)
    monkeypatch.setattr(nomic.embed, "_embed4all", None)
    return fake
