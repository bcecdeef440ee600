"""A query never compiles; the cache belongs to these sources; the engine is chosen by the work."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest

from resizable_search.engine import kernel_cache
from resizable_search.engine.kernel_cache import Chooser
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.errors import UsageError
from tests.engine.test_engines import unit_rows
from tests.support import index_of

PACKAGE = Path(kernel_cache.__file__).parents[1]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A copy of the package, for which no kernel was compiled."""
    root = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(PACKAGE, root / "resizable_search", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def run_there(elsewhere, code, **variables):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(elsewhere), "HOME": str(elsewhere), **variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


SEARCH = """
import sys
from resizable_search import open_index
from resizable_search.engine import kernel_cache
kernel_cache.WORTH_COMPILING = {worth}
index = open_index({folder!r})
print(index.warm())
top = index.scan(index.vectors([3]), k=5)
print(top.rows[0].tolist())
print(index.remark)
print("numba" in sys.modules)
"""


def test_a_cold_cache_takes_numpy_and_says_so_and_a_warm_one_numba(elsewhere, tmp_path):
    with index_of(unit_rows(500, 96, 0, "plain"), tmp_path) as index:
        code = SEARCH.format(folder=str(index.folder), worth=1)
        small = SEARCH.format(folder=str(index.folder), worth=10**9)
        expected = str(index.scan(index.vectors([3]), k=5).rows[0].tolist())
    engine, rows, remark, numba = run_there(elsewhere, code)
    assert (engine, rows, numba) == ("numpy", expected, "False")
    assert "`warm` compiles them" in remark
    assert run_there(elsewhere, small) == ["numpy", expected, "", "False"]
    compiling = "from resizable_search.engine.kernel_cache import compile_kernels as c; print(c(), c())"
    assert run_there(elsewhere, compiling) == [f"{number_of_kernels()} 0"]
    assert run_there(elsewhere, code) == ["numba", expected, "", "True"]
    # Kernels that are gone, or of other sources, are not compiled by a query either.
    cache = elsewhere / "resizable_search/engine/kernels/__pycache__"
    next(cache.glob("scan.survivors*.nbi")).unlink()
    assert run_there(elsewhere, code)[0] == "numpy"
    assert not list(cache.glob("scan.survivors*.nbi"))
    assert run_there(elsewhere, compiling) == ["1 0"]
    source = elsewhere / "resizable_search/engine/kernels/basics.py"
    source.write_text(source.read_text() + "\n# changed\n")
    assert run_there(elsewhere, code)[0] == "numpy"
    shutil.rmtree(cache)
    assert run_there(elsewhere, code)[0] == "numpy"


def number_of_kernels():
    from resizable_search.engine import kernels

    return len(kernels.SIGNATURES)


def test_without_a_working_numba_numpy_serves(elsewhere, tmp_path):
    with index_of(unit_rows(50, 96, 0, "plain"), tmp_path) as index:
        code = SEARCH.format(folder=str(index.folder), worth=1)
    cache = elsewhere / "resizable_search/engine/kernels/__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "any.nbi").touch()
    run_there(
        elsewhere,
        f"from resizable_search.engine import kernel_cache as k; k._write_stamp(k.Path({str(cache)!r}))",
    )
    engine, _, remark, _ = run_there(elsewhere, code, NUMBA_DISABLE_JIT="1")
    assert engine == "numpy"
    assert "numba cannot be used here" in remark
    assert "numba cannot be used here" in run_there(elsewhere, COMPILE, NUMBA_DISABLE_JIT="1")[0]


COMPILE = """
from resizable_search.engine.kernel_cache import ColdKernelsError, compile_kernels
try:
    print(compile_kernels())
except ColdKernelsError as error:
    print(error)
"""

BUILD = """
import sys
from resizable_search.engine import kernel_cache
from resizable_search.cli.main import main
kernel_cache.WORTH_COMPILING = {worth}
sys.argv[1:] = ["build", "files", "notes", "--embedder", "lsa", "--home", "home", "--name", {name!r}]
main()
"""


def start_build(elsewhere, name, worth):
    (elsewhere / "notes").mkdir(exist_ok=True)
    for number in range(4):
        (elsewhere / "notes" / f"{number}.txt").write_text(f"tree {number} leaf {number % 2}")
    return subprocess.Popen(
        [sys.executable, "-c", BUILD.format(name=name, worth=worth)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=elsewhere,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(elsewhere), "HOME": str(elsewhere)},
    )


@pytest.fixture
def nowhere(elsewhere):
    """Files stand where the package's and the user's cache would be."""
    blocked = [elsewhere / ".cache", elsewhere / "resizable_search" / "engine" / "kernels" / "__pycache__"]
    for path in blocked:
        shutil.rmtree(path, ignore_errors=True)
        path.touch()
    yield elsewhere
    for path in blocked:
        path.unlink()


NAME_A_FOLDER = """
import os
from resizable_search.engine import kernel_cache
kernel_cache._name_a_folder()
print(os.environ.get("NUMBA_CACHE_DIR"))
"""


def test_a_folder_in_the_home_keeps_kernels_that_no_other_place_can(nowhere, tmp_path):
    """As in a container whose user owns nothing but the home of indexes."""
    home, blocked = tmp_path / "home", tmp_path / "file"
    blocked.touch()
    own = str(home / ".state" / "kernels")
    assert run_there(nowhere, NAME_A_FOLDER, RSEARCH_HOME=str(home)) == [own]
    assert run_there(nowhere, NAME_A_FOLDER, RSEARCH_HOME=str(home), NUMBA_CACHE_DIR="/x") == ["/x"]
    said = run_there(nowhere, COMPILE, RSEARCH_HOME=str(blocked))[0]
    assert said == "its kernels can be kept nowhere: set NUMBA_CACHE_DIR to a folder you can write"


def test_a_small_build_compiles_nothing(elsewhere):
    shutil.rmtree(elsewhere / "resizable_search/engine/kernels/__pycache__", ignore_errors=True)
    out, err = start_build(elsewhere, "small", 10**6).communicate()
    assert out.startswith("small: 4 documents")
    assert "compiling" not in err
    assert not list(elsewhere.glob("resizable_search/engine/kernels/__pycache__/*.nbi"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_compilation_leaves_a_finished_index_at_once(elsewhere, number):
    shutil.rmtree(elsewhere / "resizable_search/engine/kernels/__pycache__", ignore_errors=True)
    process = start_build(elsewhere, number.name, 1)
    for line in process.stderr:
        if "compiling" in line:
            break
    process.send_signal(number)
    began = time.monotonic()
    out, err = process.communicate()
    assert time.monotonic() - began < 10
    assert process.returncode == 0
    assert out.startswith(f"{number.name}: 4 documents")
    assert "their compilation was stopped" in err
    assert "`rsearch warm` compiles them" in err
    query = f"from resizable_search import open_index as o; print(len(o('home/{number.name}').query('tree')))"
    assert run_there(elsewhere, query) == ["4"]


def test_an_interrupted_compilation_of_a_script_is_an_interrupt(monkeypatch):
    class Interrupted:
        def stage(self, *_):
            raise KeyboardInterrupt

    monkeypatch.setattr(kernel_cache, "_load_kernels", kernel_cache._load_kernels.__wrapped__)
    monkeypatch.setattr(kernel_cache, "is_warm", lambda: False)
    monkeypatch.setattr(kernel_cache, "_CHILD", """print(1, flush=True); input()""")
    with pytest.raises(KeyboardInterrupt):
        kernel_cache.compile_kernels(Interrupted())


def test_a_compilation_that_ends_early_is_an_error(monkeypatch):
    monkeypatch.setattr(kernel_cache, "_load_kernels", kernel_cache._load_kernels.__wrapped__)
    monkeypatch.setattr(kernel_cache, "is_warm", lambda: False)
    monkeypatch.setattr(kernel_cache, "_CHILD", "raise SystemExit(1)")
    with pytest.raises(kernel_cache.ColdKernelsError, match="their compilation failed"):
        kernel_cache.compile_kernels()


def test_a_compilation_that_is_stopped_says_so(monkeypatch):
    monkeypatch.setattr(kernel_cache, "_load_kernels", kernel_cache._load_kernels.__wrapped__)
    monkeypatch.setattr(kernel_cache, "is_warm", lambda: False)
    monkeypatch.setattr(kernel_cache, "_CHILD", "print(1, flush=True); input()")
    stop = threading.Event()
    stop.set()
    with pytest.raises(kernel_cache.ColdKernelsError, match="their compilation was stopped"):
        kernel_cache.compile_kernels(stop=stop)


class Failing:
    """A kernel that numba cannot load."""

    def __init__(self, words: str) -> None:
        self.words = words

    def compile(self, signature: object) -> None:
        raise RuntimeError(self.words)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (
            lambda: Failing("LLVM ERROR:\nbad target"),
            "numba cannot be used here: RuntimeError: LLVM ERROR: bad target",
        ),
        (
            lambda: Failing("cannot cache function 'f': no locator available for file '/x.py'"),
            "its kernels can be kept nowhere: set NUMBA_CACHE_DIR to a folder you can write",
        ),
        (lambda: numba.njit(lambda x: x + 1), "its kernels are not compiled for this machine"),
    ],
    ids=["broken", "nowhere", "another machine"],
)
def test_kernels_that_do_not_load_are_told_and_never_compiled_by_a_query(
    monkeypatch, tmp_path, kernel, words
):
    """The folder of the package and the user's cannot be written either, so numba is to use our own."""
    (tmp_path / "file").touch()
    folders = (tmp_path / "file" / "package", tmp_path / "file" / "user", tmp_path / "own")
    monkeypatch.setattr(kernel_cache, "_stamp_paths", lambda: [folder / "stamp.json" for folder in folders])
    monkeypatch.setattr(kernel_cache, "_load_kernels", kernel_cache._load_kernels.__wrapped__)
    monkeypatch.setattr(kernel_cache, "is_warm", lambda: True)
    monkeypatch.setattr("resizable_search.engine.kernels.SIGNATURES", {kernel(): (numba.int64,)})
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    with pytest.raises(kernel_cache.ColdKernelsError) as caught:
        kernel_cache.load_engine(1)
    assert str(caught.value) == words
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "own")


@pytest.mark.usefixtures("compiled")
def test_the_engine_is_chosen_by_the_work(monkeypatch):
    monkeypatch.setattr(kernel_cache, "WORTH_LOADING", 1000)
    chooser = Chooser()
    assert chooser.pick(600).name == "numpy"
    assert chooser.pick(600).name == "numba"
    assert chooser.pick(1).name == "numba"
    assert Chooser("numpy").pick(10**12).name == "numpy"
    assert Chooser("numpy").warm() == "numpy"
    assert Chooser("numba").pick(1).name == "numba"
    with pytest.raises(UsageError, match="no engine 'faiss'"):
        Chooser("faiss")


def test_a_process_that_stays_loads_the_kernels_beside_its_searches(monkeypatch):
    loads, may_load, compiled = threading.Event(), threading.Event(), NumpyEngine()

    def load(threads):
        loads.set()
        assert may_load.wait(60)
        return compiled

    monkeypatch.setattr(kernel_cache, "load_engine", load)
    monkeypatch.setattr(kernel_cache, "LOADING_AFTER", 0)
    small, large = Chooser(numbers=1, stays=True), Chooser(stays=True)
    assert small.pick(1) is not compiled
    assert not loads.is_set()
    before = threading.active_count()
    assert [large.pick(1) is compiled for _ in range(3)] == [False] * 3
    assert loads.wait(60)
    assert threading.active_count() == before + 1
    may_load.set()
    assert large.warm()  # waits for the loading
    assert large.pick(1) is compiled


@pytest.mark.usefixtures("compiled")
def test_a_search_that_takes_longer_than_loading_waits_for_the_kernels():
    assert Chooser(stays=True).pick(kernel_cache.WORTH_LOADING + 1).name == "numba"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of a process with threads
def test_a_fork_waits_for_the_loading_of_kernels():
    if (child := os.fork()) == 0:
        os._exit(not kernel_cache.LOADING.acquire(blocking=False))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_numba_that_cannot_be_had_is_an_error_only_if_it_was_asked_for(monkeypatch):
    def cold(threads):
        raise kernel_cache.ColdKernelsError("no LLVM")

    monkeypatch.setattr(kernel_cache, "load_engine", cold)
    chooser = Chooser()
    assert chooser.pick(10**12).name == "numpy"
    assert "no LLVM" in chooser.remark
    with pytest.raises(UsageError, match="no LLVM"):
        Chooser("numba").pick(1)


@pytest.mark.usefixtures("compiled")
def test_sixteen_threads_at_once_get_what_one_gets(tmp_path):
    rows = unit_rows(3000, 192, 0, "duplicates")
    plans = ["192", "64:60,192", "100", "128:bits:200,192:int8:40,192", "64:int8:50,192", "192:float32"]
    rng = np.random.default_rng(0)
    queries = [rng.standard_normal((m, 192)).astype(np.float32) for m in (1, 2, 5, 40)]
    with index_of(rows, tmp_path) as plain:
        expected = {
            (plan, i): plain.scan(asked, k=10, plan=plan) for plan in plans for i, asked in enumerate(queries)
        }
        from resizable_search.search.index import open_index

        wrong, barrier = [], threading.Barrier(16)
        with open_index(plain.folder, engine="numba", threads=3) as index:

            def hammer(seed):
                order = np.random.default_rng(seed).permutation(list(expected.keys()) * 4)
                barrier.wait()
                for plan, i in order:
                    top = index.scan(queries[int(i)], k=10, plan=str(plan))
                    right = expected[str(plan), int(i)]
                    if not (
                        np.array_equal(top.rows, right.rows) and np.array_equal(top.scores, right.scores)
                    ):
                        wrong.append((plan, i))

            threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert not wrong
