"""An embedder of another package, which is really installed: `tests/example_package`."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Inside, errs

PACKAGE = Path(__file__).parents[1] / "example_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip has installed the package into.

    The wheel is packed here: building it with its own back end would take one from an index.
    """
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    [(group, points)] = project["entry-points"].items()
    entries = "".join(f"{kind} = {target}\n" for kind, target in points.items())
    files = {
        "letters_embedder.py": (PACKAGE / "letters_embedder.py").read_text(),
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-{version}.dist-info/entry_points.txt": f"[{group}]\n{entries}",
    }
    folder = tmp_path_factory.mktemp("third")
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        record = "".join(f"{path},,\n" for path in files)
        archive.writestr(f"{name}-{version}.dist-info/RECORD", record)
    target = folder / "site"
    options = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, timeout=120)
    return target


def test_it_is_found_by_its_entry_point_and_its_index_is_queried(
    inside: Inside, installed: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as there:
        there.syspath_prepend(installed)
        built = inside.run("build", "pydoc", "--embedder", "letters", "--dims", "64", "--model", "single")
        assert built.code == 0, built
        assert "pydoc: 40 documents at 64, 702 dimensions" in built.out
        assert "letters are all that it knows" in built.out
        [hit] = inside.run("query", "text of a", "-k", 1, "--json").json["hits"]
        assert hit["score"] > 0.9
        assert "letters: single, 702 dimensions" in inside.run("info").out
        errs(
            inside.run("build", "pydoc", "--embedder", "letters", "--base-url", "http://x/v1"),
            2, "'letters' has no option --base-url",
        )  # fmt: skip
    errs(inside.run("query", "tree"), 2, "no embedder 'letters'", "install its package")
    assert "no embedder 'letters'" in inside.run("info").out
