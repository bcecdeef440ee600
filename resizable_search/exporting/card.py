"""What a folder that was exported says of itself: README.md for people, export.json for programs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resizable_search.exporting.base import CARD, FACTS, Format, Settings
from resizable_search.wording import plain

FRONT = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
"""
"""What the hub, and `datasets`, read of a card: which files are the data."""


def write_card(folder: Path, form: Format, facts: Mapping[str, Any], settings: Settings) -> None:
    """Write the README.md: what the rows are, how they are read, and how a query has to be prepared."""
    dim, full = facts["dim"], facts["full_dim"]
    cut = "" if dim == full else f", cut to the first {dim} of {full} dimensions and made unit length again"
    steps = [f"embed it with {_code(facts['model'])}{_with(facts['query_prefix'])}"]
    if facts["centred"]:
        steps.append("subtract the mean of its numbers")
    if dim != full:
        steps.append(f"take the first {dim}")
    steps.append("divide by its length")
    lines = [
        f"# {plain(facts['index'])}",
        "",
        f"{facts['documents']:,} documents of {plain(facts['corpus'])}, embedded with "
        f"{_code(facts['model'])}{_with(facts['document_prefix'])}{cut}. Rows have {dim} float32 numbers and "
        "norm 1, so inner products are cosine similarities.",
        "",
        f"A query is prepared as the documents were: {', '.join(steps)}. Then:",
        "",
        "```python",
        form.usage(settings).rstrip(),
        "```",
        "",
        f"`query` is (dim,) float32, `metadata` a JSON object as text. {FACTS} says all this for programs.",
    ]
    front = FRONT if form.name == "datasets" else ""
    (folder / CARD).write_text(front + "\n".join(lines) + "\n", encoding="utf-8")


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write export.json: the facts, and the files that the export consists of with their bytes."""
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    text = json.dumps({**facts, "files": files}, indent=1, ensure_ascii=False)
    (folder / FACTS).write_text(text + "\n", encoding="utf-8")


def _code(text: str) -> str:
    return f"`{plain(text).replace('`', '')}`"


def _with(prefix: str) -> str:
    return f" (task or prefix {_code(prefix)})" if prefix.strip() else ""
