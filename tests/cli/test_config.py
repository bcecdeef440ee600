"""Defaults from files: their order, what a project may set, and what happens to wrong ones."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import typer

from resizable_search.cli.main import app
from resizable_search.cli.settings import Configuration
from tests.cli.conftest import Inside, errs


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
    assert asked(inside) == {"k": 3, "plan": f"16:20,{full}"}


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
    errs(inside.run("query", "word1 word2"), 1, "no index nowhere")
    inside.setenv("RSEARCH_INDEX", "pydoc")
    assert inside.run("query", "word1 word2").code == 0
    assert setting(inside, "index") == ("pydoc", "$RSEARCH_INDEX")
    errs(inside.run("query", "word1 word2", "--index", "other"), 1, "no index other")


def test_an_index_is_meant_for_every_command_that_takes_one_but_for_none_that_must_be_told(
    inside: Inside, home: Path
):
    assert inside.run("build", "pydoc", "--embedder", "lsa", "--name", "second").code == 0
    write(home, 'index = "second"\n')
    assert " second " in inside.run("info").out.splitlines()[0]
    assert inside.run("tune", "--show", "--json").code == 0
    errs(inside.run("remove", "--yes"), 2, "Missing argument")
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
        ("indx = 'a'", ("unknown setting indx", "did you mean index?")),
        ("[query]\nkk = 3", ("unknown setting query.kk", "did you mean query.k?")),
        ("[qery]\nk = 3", ("unknown setting qery", "did you mean query?")),
        ("[query]\nk = 'x'", ("query.k: 'x' is not a whole number",)),
        ("[query]\nk = '1_000'", ("query.k: '1_000' is not a whole number",)),
        ("[query]\nk = '²'", ("query.k: '²' is not a whole number",)),
        ("[query]\nk = true", ("query.k: 'True' is not a whole number",)),
        ("[query]\nk = [1, 2]", ("query.k: '1,2' is not a whole number",)),
        ("[query.k]\nx = 1", ("query.k takes one value",)),
        ("[query]\nformat = 'xml'", ("query.format: ", "'xml' is not one of 'cards', 'table'")),
        ("[query]\nmin-score = 'x'", ("query.min-score: 'x' is not a number",)),
        ("[bench]\nseed = -1", ("bench.seed: -1 is not in the range x>=0",)),
        ("[query]\njson = true", ("unknown setting query.json",)),
        ("threads = 1.5", ("threads: '1.5' is not a whole number",)),
        ("index = \n", ("is not TOML", "line 1")),
        ("k\x00 = 1", ("is not TOML",)),
    ],
)
def test_a_wrong_file_is_an_error_of_one_line_and_help_doctor_and_config_still_work(
    inside: Inside, home: Path, text: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    from resizable_search.admin import doctor

    monkeypatch.setattr(doctor, "examine", lambda home: iter(()))
    write(home, text)
    errs(inside.run("query", "word1 word2"), 1, str(home / "rsearch.toml"), *words)
    for command in (("query", "--help"), ("query", "--home", home, "--help"), ("--version",), ("config",)):
        ran = inside.run(*command)
        assert (ran.code, ran.err.count("\n")) == (0, command == ("config",)), ran
    ran = inside.run("doctor", "--json")
    assert ran.code == 1
    assert [one["state"] for one in ran.json if one["what"] == "configuration"] == ["wrong"]
    assert inside.run("config", "--json").json["problems"]


@pytest.mark.parametrize(
    ("text", "command", "words"),
    [
        ("[query]\nk = 0", ("query", "word1"), ("k must be", "sets k = 0")),
        ("[query]\ndim = 100000", ("query", "word1"), ("100000", "sets dim = 100000")),
        (
            "[query]\nmin-score = nan",
            ("query", "word1"),
            ("--min-score must be a number", "sets min-score = nan"),
        ),
        (
            "[build]\nembedder = 'nomik'",
            ("build", "files", ".", "--name", "new"),
            ("no embedder 'nomik'", "sets embedder = nomik"),
        ),
        (
            "[build]\ndims = [true]",
            ("build", "pydoc"),
            ("--dims: 'True' is not a number", "sets dims = True"),
        ),
    ],
)
def test_a_default_that_the_command_refuses_is_an_error_that_names_the_file(
    inside: Inside, home: Path, text: str, command: tuple[str, ...], words: tuple[str, ...]
):
    write(home, text)
    errs(inside.run(*command), 2, str(home / "rsearch.toml"), *words)


@pytest.mark.parametrize("shape", ["one", "two"])
def test_a_default_that_has_nothing_to_do_with_an_error_is_not_blamed(inside: Inside, home: Path, shape: str):
    write(home, "[query]\nk = 1\nsnippet = 96" + ("\ndim = 99999" if shape == "two" else ""))
    word = () if shape == "two" else ("--dim", "99999")
    ran = inside.run("query", "word1", *word)
    errs(ran, 2, "dimension 99999 is not within 1 to ")
    assert ("sets" in ran.err, "sets dim = 99999" in ran.err) == (shape == "two",) * 2


def test_a_file_that_is_a_folder_is_an_error(inside: Inside, home: Path):
    (home / "rsearch.toml").mkdir()
    errs(inside.run("list"), 1, "rsearch.toml: Is a directory")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("build.base-url", '"http://evil.example/v1"'),
        ("build.api-key-env", '"AWS_SECRET_ACCESS_KEY"'),
        ("build.embedder", '"openai"'),
        ("build.model", '"someone/weights"'),
        ("build.chunk", '"400"'),
        ("build.files.dims", '"64"'),
        ("eval.base-url", '"http://evil.example/v1"'),
        ("home", '"indexes"'),
    ],
)
def test_a_project_sets_search_and_output_options_only_and_others_are_ignored_with_a_warning(
    inside: Inside, home: Path, key: str, value: str
):
    project(inside, f"[tool.rsearch]\n{key} = {value}\nquery.k = 4\n")
    ran = inside.run("query", "word1 word2", "--json")
    assert (ran.code, ran.json["k"]) == (0, 4)
    assert ran.err.count("\n") == 1
    assert f"pyproject.toml: ignored {key} (a project sets search and output options only)" in ran.err
    settings = inside.run("config", "--json").json["settings"]
    assert [one["key"] for one in settings if "pyproject" in one["from"]] == ["query.k"]
    assert key in inside.run("config").err


def test_removed_keys_of_the_home_are_ignored_with_a_warning(inside: Inside, home: Path):
    write(home, 'home = "elsewhere"\nproject-homes = ["elsewhere"]\n[query]\nk = 3\n')
    ran = inside.run("query", "word1 word2", "--json")
    assert (ran.code, ran.json["k"]) == (0, 3)
    assert "ignored home, project-homes (--home and $RSEARCH_HOME choose the home)" in ran.err
    assert ran.err.count("\n") == 1


def test_an_index_that_a_project_names_by_folder_is_meant_from_the_projects(
    inside: Inside, home: Path, monkeypatch: pytest.MonkeyPatch
):
    project(inside, '[tool.rsearch]\nindex = "./indexes/pydoc"\n')
    (inside.folder / "below").mkdir()
    monkeypatch.chdir(inside.folder / "below")
    assert inside.run("info", "--home", inside.folder / "empty").code == 0


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
    assert setting(inside, "query.k") == (7, str(home / "rsearch.toml"))
    errs(inside.run("config", "unset", "query.dim"), 1, "query.dim is not set there")
    errs(inside.run("config", "set", "query.kk", 7), 1, "did you mean query.k?")
    errs(inside.run("config", "set", "query.k", "7", "8"), 1, "query.k: '7,8' is not a whole number")
    for number in ("x", "1_000", "²", "٣"):
        errs(inside.run("config", "set", "query.k", number), 1, "not a whole number")
        errs(inside.run("config", "set", "query.min-score", number), 1, "not a number")
    assert list(home.glob("rsearch.toml*")) == [home / "rsearch.toml"]


def test_a_file_that_cannot_be_changed_is_left_as_it_was(inside: Inside, home: Path):
    write(home, "index = \n")
    errs(inside.run("config", "set", "query.k", 7), 1, "is not TOML", "correct the file")
    assert (home / "rsearch.toml").read_text() == "index = \n"
    write(home, "query = 3\n")
    errs(inside.run("config", "set", "query.k", 7), 1, "query is not a table: correct the file")
    assert (home / "rsearch.toml").read_text() == "query = 3\n"


def test_every_setting_is_listed_with_where_it_comes_from(inside: Inside, home: Path):
    write(home, "threads = 1\n[query]\nk = 3\n")
    ran = inside.run("config")
    rows = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines()[1:]}
    assert rows["threads"] == ["1", str(home / "rsearch.toml")]
    assert rows["query.k"] == ["3", str(home / "rsearch.toml")]
    assert rows["home"] == [str(home), "$RSEARCH_HOME"]
    assert rows["query.rerank"] == ["0"]
    files = json.loads(inside.run("config", "--json").out)["files"]
    assert [one["exists"] for one in files] == [True]


def test_a_default_is_dropped_by_a_form_of_a_command_that_has_no_use_for_it(
    inside: Inside, home: Path, monkeypatch: pytest.MonkeyPatch
):
    (inside.folder / "notes.csv").write_text("text\nword1 word2 word3\nword4 word5 word6\n")
    write(
        home,
        "[query]\nformat = 'csv'\n[build]\nembedder = 'lsa'\nlimit = 200000\n"
        "[tune]\nsample = 20\n[eval]\nsplit = 'dev'\nchars = 1200\n",
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("word1\n"))
    errs(inside.run("build", "files", "notes.csv", "--chunk", 0, "--chunk-overlap", 5), 2, "needs --chunk")
    assert inside.run("build", "files", "notes.csv").code == 0
    assert inside.run("query", "-", "-i", "pydoc", "--json").code == 0
    errs(inside.run("query", "-", "-i", "pydoc", "--format", "csv"), 2, "leave --open and --format out")
    (inside.folder / "queries.txt").write_text("word1 word2\n")
    assert "--sample" not in inside.run("tune", "-i", "pydoc", "--queries", "queries.txt").err
    missing = inside.run("eval", "-i", "pydoc", "--queries", "queries.txt", "--qrels", "nothing.tsv")
    errs(missing, 2, "nothing.tsv")
    errs(inside.run("build", "wiki100k", "--limit", 200_000), 2, "the first 100,000 articles")
    assert "the first 100,000 articles" not in inside.run("build", "wiki100k", "--dry-run").err


def test_an_evaluated_folder_names_its_own_index(inside: Inside, home: Path):
    write(home, "index = 'pydoc'\n[eval]\nk = 5\n")
    configuration = Configuration(typer.main.get_command(app), home)
    assert set(configuration.defaults(("eval",), {})) == {"index", "k"}
    assert set(configuration.defaults(("eval",), {"folder": "trees"})) == {"k"}
