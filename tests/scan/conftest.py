import pytest

from resizable_search.scan.base import Engine
from resizable_search.scan.numba_engine import NumbaEngine
from resizable_search.scan.numpy_engine import NumpyEngine
from resizable_search.scan.warm import compile_kernels


@pytest.fixture(scope="session")
def compiled() -> None:
    compile_kernels()


@pytest.fixture(params=["numpy", "numba-1", "numba-3"], scope="session")
def engine(request) -> Engine:
    """Every engine goes through the same tests."""
    if request.param == "numpy":
        return NumpyEngine()
    request.getfixturevalue("compiled")
    return NumbaEngine(int(request.param[-1]))
