"""What `rsearch config` prints: every setting, its value, and where that is said."""

import sys
from typing import Any

from resizable_search.cli import output, settings
from resizable_search.cli.configured import Configuration, Found
from resizable_search.cli.settings import Setting
from resizable_search.text import plain


def listing(configuration: Configuration, *, as_json: bool) -> None:
    """Print all settings on stdout, and what is wrong with the files on stderr (in JSON, with them)."""
    rows = [(setting, found) for setting, found in _effective(configuration)]
    files = [
        {"path": str(file.path), "exists": file.exists, "project": file.is_project}
        for file in configuration.files
    ]
    if as_json:
        told = [
            {
                "key": setting.name,
                "value": str(found.value) if setting.key == "home" else found.value,
                "from": found.origin or "default",
            }
            for setting, found in rows
        ]
        output.json_object({"files": files, "problems": configuration.problems, "settings": told})
        return
    from rich.table import Table
    from rich.text import Text

    from resizable_search.cli.tables import show_table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in ("setting", "value", "from"):
        table.add_column(name, overflow="fold")
    for setting, found in rows:
        style = "" if found.origin else "dim"
        table.add_row(
            Text(setting.name, style=style),
            Text(_words(setting, found), style=style),
            Text(plain(found.origin)),
        )
    show_table(table)
    sys.stdout.flush()
    for problem in configuration.problems:
        sys.stderr.write(f"rsearch: {plain(problem)}\n")


def _effective(configuration: Configuration) -> list[tuple[Setting, Found]]:
    """Each setting with its value: of a command below a group only what differs from the group's."""
    rows: list[tuple[Setting, Found]] = []
    tables = configuration.schema.tables
    for table in sorted(tables, key=lambda table: (len(table) > 0, table)):
        for setting in tables[table].values():
            found = configuration.find(setting)
            above = tables.get(table[:-1], {}).get(setting.key) if len(table) > 1 else None
            if above is not None and (found.value, found.origin) == _pair(configuration.find(above)):
                continue
            if table and setting.key in settings.SHARED:
                shared = configuration.find(tables[()][setting.key])
                if str(found.value) == str(shared.value) and found.origin == shared.origin:
                    continue
            rows.append((setting, found))
    return rows


def _pair(found: Found) -> tuple[Any, str]:
    return found.value, found.origin


def _words(setting: Setting, found: Found) -> str:
    if found.value is None:
        return f"({setting.shown})"
    return plain(", ".join(found.value) if isinstance(found.value, list) else str(found.value))
