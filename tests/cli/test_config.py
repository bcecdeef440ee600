"""Defaults from files: which says what, what a project may not say, and what becomes of wrong ones."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Inside, told


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that needs an index leaves it for the others."""
    return tmp_path_factory.mktemp("built")


@pytest.fixture
def home(inside: Inside, built: Path) -> Path:
    """A home with one index and no file."""
    if not (built / "pydoc").exists():
        assert inside.run("build", "pydoc", "--embedder", "lsa", "--dims", "16,32").code == 0
        shutil.copytree(inside.home / "pydoc", built / "pydoc")
    else:
        shutil.copytree(built / "pydoc", inside.home / "pydoc")
    return inside.home


def write(home: Path, text: str) -> None:
    (home / "rsearch.toml").write_text(text)


def project(inside: Inside, text: str) -> None:
    (inside.folder / "pyproject.toml").write_text(text)


def asked(inside: Inside, *args: object) -> dict:
    """What a query that found something was: its k and plan."""
    ran = inside.run("query", "word1 word2", "--json", *args)
    assert ran.code == 0, ran
    return {"k": ran.json["k"], "plan": ran.json["plan"]}


def setting(inside: Inside, key: str) -> tuple[object, str]:
    ran = inside.run("config", "--json")
    assert ran.code == 0
    return next((one["value"], one["from"]) for one in ran.json["settings"] if one["key"] == key)


def test_the_home_says_what_a_command_leaves_out(inside: Inside, home: Path):
    full = asked(inside)["plan"]
    write(home, "[query]\nk = 3\ndim = 16\nrerank = 2\n")
    assert asked(inside) == {"k": 3, "plan": f"16:6,{full}"}


def test_the_command_line_goes_before_the_project_and_that_before_the_home(inside: Inside, home: Path):
    write(home, "[query]\nk = 3\n")
    project(inside, "[tool.rsearch.query]\nk = 4\n")
    assert asked(inside)["k"] == 4
    assert asked(inside, "-k", 5)["k"] == 5


def test_a_project_is_found_from_a_folder_below_it(
    inside: Inside, home: Path, monkeypatch: pytest.MonkeyPatch
):
    project(inside, "[tool.rsearch.query]\nk = 4\n")
    below = inside.folder / "a" / "b"
    below.mkdir(parents=True)
    (inside.folder / "a" / "pyproject.toml").write_text("[project]\nname = 'another'\n")
    monkeypatch.chdir(below)
    assert asked(inside)["k"] == 4


def test_the_environment_goes_before_files_and_after_the_command_line(inside: Inside, home: Path):
    write(home, 'index = "nowhere"\n')
    told(inside.run("query", "word1 word2"), 1, "no index nowhere")
    inside.setenv("RSEARCH_INDEX", "pydoc")
    assert inside.run("query", "word1 word2").code == 0
    assert setting(inside, "index") == ("pydoc", "$RSEARCH_INDEX")
    told(inside.run("query", "word1 word2", "--index", "other"), 1, "no index other")


def test_an_index_is_meant_for_every_command_that_takes_one_but_for_none_that_must_be_told(
    inside: Inside, home: Path
):
    assert inside.run("build", "pydoc", "--embedder", "lsa", "--name", "second").code == 0
    write(home, 'index = "second"\n')
    assert " second " in inside.run("info").out.splitlines()[0]
    assert inside.run("tune", "--show", "--json").code == 0
    told(inside.run("remove", "--yes"), 2, "Missing argument")
    assert (home / "second").is_dir()


def test_a_plan_on_the_command_line_takes_the_place_of_a_dimension_in_a_file(inside: Inside, home: Path):
    write(home, "[query]\ndim = 16\nrerank = 2\n")
    assert asked(inside, "--plan", "16:20,32")["plan"] == "16:20,32"
    assert asked(inside, "--dim", 32)["plan"].startswith("32:20,")


def test_what_a_nearer_file_says_takes_the_place_of_what_it_excludes(inside: Inside, home: Path):
    write(home, "[query]\ndim = 16\nrerank = 2\n")
    project(inside, '[tool.rsearch.query]\nplan = "16:20,32"\n')
    assert asked(inside)["plan"] == "16:20,32"
    assert setting(inside, "query.dim") == (None, "default")


def test_a_table_of_a_group_is_for_all_its_commands_and_one_of_its_own_goes_before(inside: Inside):
    inside.home.mkdir()
    write(inside.home, '[build]\nembedder = "lsa"\ndims = [8, 16]\n[build.pydoc]\ndims = "4"\n')
    assert inside.run("build", "pydoc").code == 0
    assert (inside.home / "pydoc" / "4.npy").is_file()
    assert not (inside.home / "pydoc" / "8.npy").exists()


def test_what_is_said_of_one_embedder_is_not_said_of_another(inside: Inside):
    inside.home.mkdir()
    write(inside.home, '[build]\nembedder = "openai"\nbase-url = "http://127.0.0.1:9/v1"\nmodel = "x"\n')
    assert inside.run("build", "pydoc", "--embedder", "lsa").code == 0
    assert "127.0.0.1:9" in inside.run("build", "pydoc", "--name", "other", "--restart").err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("indx = 'a'", ("indx is no setting", "did you mean index?")),
        ("[query]\nkk = 3", ("query.kk is no setting", "did you mean query.k?")),
        ("[qery]\nk = 3", ("qery is no setting", "did you mean query?")),
        ("[query]\nk = '3'", ("query.k must be a whole number, not '3'",)),
        ("[query]\nk = true", ("query.k must be a whole number, not True",)),
        ("[query]\nk = 0", ("query.k must be 1 or more",)),
        ("[query]\nformat = 'xml'", ("query.format is one of table, json", "'xml'")),
        ("[query]\nmin-score = nan", ("query.min-score must be a number",)),
        ("[build]\nembedder = 'nomik'", ("build.embedder is one of nomic,",)),
        ("[build]\ndims = [true]", ("build.dims must be a list",)),
        ("[query]\njson = true", ("query.json is no setting",)),
        ("threads = 1.5", ("threads must be a whole number",)),
        ("home = 'x'", ("cannot say where it is",)),
        ("index = \n", ("is no TOML", "line 1")),
        ("k\x00 = 1", ("is no TOML",)),
    ],
)
def test_a_wrong_file_is_told_in_one_line_and_leaves_help_doctor_and_config_usable(
    inside: Inside, home: Path, text: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    from resizable_search.admin import doctor

    monkeypatch.setattr(doctor, "examine", lambda home: iter(()))
    write(home, text)
    told(inside.run("query", "word1 word2"), 1, str(home / "rsearch.toml"), *words)
    for command in (("query", "--help"), ("query", "--home", home, "--help"), ("--version",), ("config",)):
        ran = inside.run(*command)
        assert (ran.code, ran.err.count("\n")) == (0, command == ("config",)), ran
    ran = inside.run("doctor", "--json")
    assert ran.code == 1
    assert [one["state"] for one in ran.json if one["what"] == "configuration"] == ["wrong"]
    assert inside.run("config", "--json").json["problems"]


def test_a_file_that_is_no_file_or_too_large_is_told(inside: Inside, home: Path):
    (home / "rsearch.toml").mkdir()
    told(inside.run("list"), 1, "rsearch.toml: it is no file")
    (home / "rsearch.toml").rmdir()
    write(home, "#" * 1_000_001)
    told(inside.run("list"), 1, "1,000,000 bytes")


@pytest.mark.parametrize(
    "line",
    [
        'base-url = "http://evil.example/v1"',
        'api-key-env = "AWS_SECRET_ACCESS_KEY"',
        'embedder = "openai"',
        'embedder = "nomic"',
        'embedder = "sentence-transformers"',
        'model = "someone/weights"',
        "rate = 100000.0",
    ],
)
def test_a_project_cannot_say_where_texts_and_keys_are_sent(inside: Inside, home: Path, line: str):
    project(inside, f"[tool.rsearch.build]\n{line}\n")
    told(inside.run("build", "pydoc", "--name", "new"), 1, "pyproject.toml", "is not taken from a project")
    assert not (home / "new").exists()
    key, _, value = line.partition(" = ")
    ran = inside.run("config", "set", f"build.{key}", value.strip('"'), "--project")
    told(ran, 1, "is not taken from a project")


def test_a_project_may_keep_texts_on_this_machine(inside: Inside, home: Path):
    write(home, '[build]\nembedder = "openai"\nbase-url = "http://127.0.0.1:9/v1"\n')
    project(inside, '[tool.rsearch.build]\nembedder = "lsa"\n')
    assert inside.run("build", "pydoc", "--name", "new").code == 0


def test_a_home_that_a_project_brings_is_used_once_the_user_agreed(
    inside: Inside, home: Path, monkeypatch: pytest.MonkeyPatch
):
    from resizable_search.cli import configured

    monkeypatch.delenv("RSEARCH_HOME")
    usual = inside.folder / "usual"
    monkeypatch.setattr(configured, "default_home", lambda: usual)
    project(inside, '[tool.rsearch]\nhome = "indexes"\n')
    ran = inside.run("list")
    told(ran, 1, "wants the home", "rsearch config set project-homes", str(home))
    assert inside.run("list", "--home", home).code == 0  # which is the user's own word
    assert inside.run("config", "set", "project-homes", home).code == 0
    assert (usual / "rsearch.toml").is_file()
    assert inside.run("list").out.count("pydoc") == 1
    assert setting(inside, "home") == (str(home), str(inside.folder / "pyproject.toml"))


def test_an_index_that_a_project_names_by_folder_is_meant_from_the_projects(
    inside: Inside, home: Path, monkeypatch: pytest.MonkeyPatch
):
    project(inside, '[tool.rsearch]\nindex = "./indexes/pydoc"\n')
    (inside.folder / "below").mkdir()
    monkeypatch.chdir(inside.folder / "below")
    assert inside.run("info", "--home", inside.folder / "empty").code == 0


def test_what_a_file_says_and_a_command_refuses_is_told_with_the_file(inside: Inside, home: Path):
    write(home, "[query]\ndim = 100000\n")
    told(inside.run("query", "word1 word2"), 2, "100000", f"({home / 'rsearch.toml'} says dim = 100000)")


def test_setting_keeps_comments_order_and_mode_and_unsetting_takes_out_what_is_wrong(
    inside: Inside, home: Path
):
    before = "# mine\nindx = 1\n\n[query] # how I search\nk = 5   # few\nrerank = 10\n"
    write(home, before)
    (home / "rsearch.toml").chmod(0o640)
    assert inside.run("config", "set", "query.k", 7).out.startswith("query.k = 7 in ")
    assert inside.run("config", "set", "build.files.chunk", "400").code == 0
    assert inside.run("config", "unset", "indx").code == 0
    after = (home / "rsearch.toml").read_text()
    begun = "# mine\n\n[query] # how I search\nk = 7   # few\nrerank = 10\n"
    assert after.startswith(begun)
    assert (home / "rsearch.toml").stat().st_mode & 0o777 == 0o640
    assert setting(inside, "build.files.chunk") == ("400", str(home / "rsearch.toml"))
    assert inside.run("config", "get", "query.k").out == "7\n"
    told(inside.run("config", "unset", "query.dim"), 1, "query.dim is not set there")
    told(inside.run("config", "get", "query.dim"), 1, "the full dimension is meant")
    told(inside.run("config", "set", "query.kk", 7), 1, "did you mean query.k?")
    told(inside.run("config", "set", "query.k", "x"), 1, "whole number")
    assert list(home.glob("rsearch.toml*")) == [home / "rsearch.toml"]


def test_a_file_that_cannot_be_changed_is_left_as_it_was(inside: Inside, home: Path):
    write(home, "index = \n")
    told(inside.run("config", "set", "query.k", 7), 1, "is no TOML", "mend it by hand")
    assert (home / "rsearch.toml").read_text() == "index = \n"


def test_a_projects_file_is_written_where_it_says_so(inside: Inside, home: Path):
    told(inside.run("config", "set", "query.k", 7, "--project"), 1, "no pyproject.toml here")
    before = '[project]\nname = "mine" # a name\n'
    project(inside, before)
    assert inside.run("config", "set", "query.k", 7, "--project").code == 0
    assert (inside.folder / "pyproject.toml").read_text().startswith(before)
    assert asked(inside)["k"] == 7
    assert inside.run("config", "path", "--project").out == f"{inside.folder / 'pyproject.toml'}\n"
    assert inside.run("config", "path").out == f"{home / 'rsearch.toml'}\n"


def test_every_setting_is_listed_with_where_it_comes_from(inside: Inside, home: Path):
    write(home, "threads = 1\n[query]\nk = 3\n")
    ran = inside.run("config")
    rows = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines()[1:]}
    assert rows["threads"] == ["1", str(home / "rsearch.toml")]
    assert rows["query.k"] == ["3", str(home / "rsearch.toml")]
    assert rows["home"] == [str(home), "$RSEARCH_HOME"]
    assert rows["query.format"] == ["table"]
    told_of = json.loads(inside.run("config", "--json").out)["files"]
    assert [one["exists"] for one in told_of] == [True]
