import pytest

from resizable_search.scan.base import Engine
from resizable_search.scan.numpy_engine import NumpyEngine


@pytest.fixture(params=[NumpyEngine], ids=lambda engine: engine.name)
def engine(request) -> Engine:
    """Every engine goes through the same tests."""
    return request.param()
