import pytest

from resizable_search.engine.base import Engine
from resizable_search.engine.numba_engine import NumbaEngine
from resizable_search.engine.numpy_engine import NumpyEngine


@pytest.fixture(params=["numpy", "numba-1", "numba-3"], scope="session")
def engine(request) -> Engine:
    """Every engine goes through the same tests."""
    if request.param == "numpy":
        return NumpyEngine()
    request.getfixturevalue("compiled")
    return NumbaEngine(int(request.param[-1]))
