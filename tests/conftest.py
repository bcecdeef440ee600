"""What every test relies on."""

import importlib.util
import json
import signal
import string
import warnings
from contextlib import suppress

import pytest

from resizable_search.engine.kernel_cache import compile_kernels

# A shell ignores Ctrl-C for what it runs in the background, and whatever that starts ignores it too.
with suppress(ValueError):  # of a thread other than the main one
    signal.signal(signal.SIGINT, signal.default_int_handler)

PROMPTS = {"query": "query: ", "passage": "document: "}


@pytest.fixture(scope="session")
def compiled():
    """Compiled kernels: without them the engine numba refuses to run."""
    compile_kernels()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A model of random weights, 32 wide, whose prompts are PROMPTS, in a folder like those of the hub."""
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip('not installed: pip install torch "resizable_search[sentence-transformers]"')
    folder = tmp_path_factory.mktemp("models") / "tiny"
    (folder / "1_Pooling").mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tree", "query", "document", ":", ".", ","]
    vocabulary = [*words, *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    modules = (("", "Transformer"), ("1_Pooling", "Pooling"))
    configurations = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
            for i, (path, name) in enumerate(modules)
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": PROMPTS, "default_prompt_name": None},
    }
    for name, content in configurations.items():
        (folder / name).write_text(json.dumps(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of importing others' libraries
        import sentence_transformers  # noqa: F401 - with the warnings that its import brings
        import torch
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
        BertModel(config).save_pretrained(folder)
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder
