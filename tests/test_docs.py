"""The pages tell the truth: their samples run, their links lead somewhere, and the README stays short."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
MOST_LINES = 170


def test_samples_print_what_the_pages_show():
    script = [sys.executable, str(ROOT / "scripts/samples.py")]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_links_lead_to_files():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short_and_names_every_page():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= MOST_LINES
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text


def test_scripts_that_the_pages_name_are_there():
    for page in PAGES:
        for name in re.findall(r"scripts/[a-z_/]+(?:\.py)?", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_examples_of_clusters_are_sound():
    import yaml

    examples = ROOT / "docs" / "examples"
    cluster = yaml.safe_load((examples / "cluster.yaml").read_text())
    assert cluster["head_node_type"] in cluster["available_node_types"]
    script = examples / "shards.slurm"
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    text = script.read_text()
    tasks = re.search(r"--array=1-(\d+)", text)[1]
    assert f'--shard "$SLURM_ARRAY_TASK_ID/{tasks}"' in text
    assert f"'wiki-%g-of-{tasks}' 1 {tasks}" in text
