"""A Ray cluster of three nodes on this machine, whose workers know an embedder that some texts kill."""

import importlib.util
import os
import sys
import warnings
from pathlib import Path

import pytest

DEADLY = '''
"""Vectors of a text's hash; the text `poison` kills the process, as too little memory would."""

import hashlib, os, signal, time
import numpy as np
from resizable_search.embedders.base import Embedder
from resizable_search.specs import EmbedderSpec


class DeadlyEmbedder(Embedder):
    kind = "deadly"
    batch_size = 4

    def __init__(self, *, model="deadly", poison="", seconds=0):
        options = {"poison": poison, "seconds": seconds}
        self._spec = EmbedderSpec(self.kind, model, 32, options=options)
        self.poison, self.seconds = poison, seconds

    def check(self):
        if self._spec.model == "stillborn":
            os.kill(os.getpid(), signal.SIGKILL)
        return "it lives"

    def embed(self, texts, task):
        time.sleep(self.seconds / 1000)
        if "odd" in texts[0]:
            raise ValueError("an odd text")
        if self.poison and any(self.poison in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        return np.stack([np.random.default_rng(seed).standard_normal(32) for seed in seeds]).astype("f4")
'''


@pytest.fixture(scope="session")
def deadly(tmp_path_factory) -> Path:
    """A folder with the package of the embedder `deadly`."""
    folder = tmp_path_factory.mktemp("deadly")
    (folder / "deadly_embedder.py").write_text(DEADLY)
    info = folder / "deadly_embedder-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly-embedder\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[resizable_search.embedders]\ndeadly = deadly_embedder:DeadlyEmbedder\n"
    )
    return folder


@pytest.fixture(scope="session")
def cluster(deadly, tmp_path_factory):
    """The cluster; `cluster.address` is that of its head."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip('not installed: pip install ".[ray]"')
    root = Path(__file__).parents[2]
    before = dict(os.environ)
    os.environ |= {"HOME": str(tmp_path_factory.mktemp("home")), "RAY_AUTH_MODE": "disabled"}
    os.environ |= {"PYTHONPATH": f"{root}:{deadly}", "RAY_USAGE_STATS_ENABLED": "0"}
    patience = {
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_agent_register_timeout_ms": "120000",
    }
    patience |= {"RAY_health_check_timeout_ms": "120000"}  # a head that is slow is not a head that died
    os.environ |= {"RAY_DEDUP_LOGS_SKIP_REGEX": "."} | patience  # of a busy machine
    sys.path.insert(0, str(deadly))
    with warnings.catch_warnings(action="ignore"):
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        for _ in range(2):
            made.add_node(num_cpus=2)
        made.wait_for_nodes()
    yield made
    import ray

    ray.shutdown()
    made.shutdown()
    sys.path.remove(str(deadly))
    os.environ.clear()
    os.environ.update(before)
