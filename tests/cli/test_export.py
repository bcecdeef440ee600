"""`rsearch export`."""

import pytest

from tests.cli.conftest import Inside, errs
from tests.cli.test_help import COMMANDS


@pytest.fixture
def pydoc(inside: Inside) -> Inside:
    ran = inside.run("build", "pydoc", "--embedder", "lsa", "--dims", "8", "--name", "made")
    assert ran.code == 0, ran
    return inside


def test_an_export_is_written_checked_and_told(pydoc: Inside):
    ran = pydoc.run("export", "made", "out.parquet", "--dim", 8)
    assert ran.code == 0, ran
    assert "out.parquet: 40 documents at 8 dimensions, " in ran.out
    assert "checked with pyarrow: 10 nearest of 40 rows as in the exact scan" in ran.out
    errs(pydoc.run("export", "made", "out.parquet"), 1, "exists", "--force")
    assert pydoc.run("export", "made", "out.parquet", "--force").code == 0


def test_what_makes_no_sense_is_told_in_a_line(pydoc: Inside):
    errs(pydoc.run("export", "nothing", "out.parquet"), 1, "no index nothing")
    errs(pydoc.run("export", "made", "out", "--format", "csv"), 2, "'csv' is not one of", "usearch")
    errs(pydoc.run("export", "made", "out"), 2, "--format")
    errs(pydoc.run("export", "made", "out.parquet", "--dim", 0), 2, "not within 1 to")
    errs(pydoc.run("export", "made", "indexes/made/out.parquet"), 2, "in the folder of the index made")
    assert sorted(path.name for path in pydoc.folder.iterdir()) == ["indexes"]


def test_the_formats_of_the_help_are_those_that_there_are():
    from resizable_search.export import export

    option = next(parameter for parameter in COMMANDS["export",].params if parameter.name == "format")
    assert tuple(export.FORMATS) == tuple(option.type.choices)
    assert all(name in option.help for name in export.FORMATS)
