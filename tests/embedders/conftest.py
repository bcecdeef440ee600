import importlib.util
import sys
import warnings
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

        class GPT4All:
            @classmethod
            def retrieve_model(cls, name):
                fake.fetched.append(name)
                if fake.fetch_error:
                    raise fake.fetch_error

        class Embed4All:
            def __init__(self, name, **options):
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

        self.GPT4All, self.Embed4All = GPT4All, Embed4All


@pytest.fixture
def gpt4all(monkeypatch):
    fake = FakeGpt4all()
    monkeypatch.setitem(sys.modules, "gpt4all", fake)
    monkeypatch.setattr(nomic.embed, "Embed4All", fake.Embed4All)
    monkeypatch.setattr(nomic.embed, "CancellationError", InterruptedError, raising=False)
    monkeypatch.setattr(nomic.embed, "_embed4all", None)
    return fake


PROMPTS = {"query": "query: ", "passage": "document: "}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a model of random weights, 32 wide, whose prompts are PROMPTS."""
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip('not installed: pip install torch "resizable_search[sentence-transformers]"')
    folder = tmp_path_factory.mktemp("tiny")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tree", "query", "document", ":", ".", ","]
    vocabulary = [*words, *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of importing others' libraries
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers import BertConfig, BertModel, BertTokenizerFast

        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )
        BertModel(config).save_pretrained(folder / "bare")
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bare")
        model = SentenceTransformer(str(folder / "bare"))
        model.prompts = PROMPTS
        model.save(str(folder / "tiny"))
    return folder / "tiny"
