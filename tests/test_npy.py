import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resizable_search.arrays import NpyReader
from resizable_search.errors import CorpusError

KINDS = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]


def saved(tmp_path, array, **how):
    path = tmp_path / "rows.npy"
    np.save(path, array, **how)
    return path


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_floats_is_read_as_it_is(tmp_path, kind, order):
    made = np.asarray(np.random.default_rng(0).standard_normal((57, 9)), kind, order=order)
    rows = NpyReader(saved(tmp_path, made))
    assert (rows.rows, rows.width, rows.surplus) == (57, 9, 0)
    for start, stop in ((0, 57), (0, 1), (13, 44), (56, 57)):
        values = rows.read(start, stop)
        assert values.dtype.isnative
        np.testing.assert_array_equal(values, made[start:stop])
    rows.close()


@settings(max_examples=30)
@given(
    n=st.integers(1, 40),
    width=st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    order=st.sampled_from("CF"),
    data=st.data(),
)
def test_any_range_of_any_shape(tmp_path_factory, n, width, kind, order, data):
    made = np.asarray(np.arange(n * width).reshape(n, width) % 2000, kind, order=order)
    rows = NpyReader(saved(tmp_path_factory.mktemp("any"), made))
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start + 1, n))
    np.testing.assert_array_equal(rows.read(start, stop), made[start:stop])
    rows.close()


def test_a_file_of_format_2_is_read(tmp_path):
    path = tmp_path / "two.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.eye(3, dtype=np.float32), version=(2, 0))
    rows = NpyReader(path)
    np.testing.assert_array_equal(rows.read(0, 3), np.eye(3))
    rows.close()


def test_a_file_of_python_2_is_read_without_a_warning(tmp_path):
    path = saved(tmp_path, np.eye(3))
    path.write_bytes(path.read_bytes().replace(b"(3, 3), }  ", b"(3L, 3L), }"))
    rows = NpyReader(path)
    np.testing.assert_array_equal(rows.read(0, 3), np.eye(3))
    rows.close()


def test_what_lies_behind_the_array_is_counted(tmp_path):
    path = saved(tmp_path, np.eye(3))
    path.write_bytes(path.read_bytes() + b"more")
    rows = NpyReader(path)
    assert rows.surplus == 4
    rows.close()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(tmp_path, bad, order):
    made = np.ones((40, 5), np.float32, order=order)
    made[33, 2] = bad
    rows = NpyReader(saved(tmp_path, made))
    assert len(rows.read(0, 33)) == 33
    with pytest.raises(CorpusError, match=r"rows\.npy has NaN or infinity in row 33: .*leave such rows out"):
        rows.read(20, 40)
    rows.close()


def pickled(array):
    held = io.BytesIO()
    np.save(held, array, allow_pickle=True)
    return held.getvalue()


def npz():
    held = io.BytesIO()
    np.savez(held, rows=np.eye(3))
    return held.getvalue()


def npy(array):
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, world", "is no .npy file"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': <f4", "is no .npy file"),
        (b"\x93NUMPY\x09\x00", "is no .npy file"),
        (b"\x93NUM", "is no .npy file"),
        (npz(), "is no .npy file"),
        (pickled(np.array([[{}, 1]], object)), "pickled objects"),
        (npy(np.ones((3, 4), np.int64)), "holds int64, not floats"),
        (npy(np.ones((3, 4), np.uint8)), "holds uint8, not floats"),
        (npy(np.ones((3, 4), np.complex64)), "holds complex64"),
        (npy(np.ones((3, 4), bool)), "holds bool"),
        (npy(np.ones((3, 4), np.longdouble)), "not floats of 16, 32 or 64 bits"),
        (npy(np.ones(3)), "array of 1 dimensions (3,), not of 2"),
        (npy(np.float32(3)), "array of 0 dimensions"),
        (npy(np.ones((2, 3, 4))), "array of 3 dimensions (2, 3, 4)"),
        (npy(np.ones((0, 4))), "no vector (its shape is (0, 4))"),
        (npy(np.ones((4, 0))), "no vector (its shape is (4, 0))"),
        (npy(np.ones((3, 4)))[:-1], "is truncated: it has 223 bytes where 224 belong"),
        (npy(np.ones((3, 4)))[:128], "is truncated"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_other_file_is_refused_by_name_with_a_remedy(tmp_path, content, words):
    path = tmp_path / "other.npy"
    path.write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        NpyReader(path)
    message = str(caught.value)
    assert str(path) in message
    assert words in message
    assert "\n" not in message
    assert ": " in message.replace(str(path), "")


def test_a_file_that_is_not_there_and_a_folder_are_told(tmp_path):
    with pytest.raises(CorpusError, match=r"cannot read .*none\.npy \(No such file"):
        NpyReader(tmp_path / "none.npy")
    with pytest.raises(CorpusError, match="is not a file"):
        NpyReader(tmp_path)


def test_a_file_that_is_cut_while_it_is_read_is_an_error(tmp_path):
    path = saved(tmp_path, np.ones((100, 10)))
    rows = NpyReader(path)
    with path.open("r+b") as file:
        file.truncate(4000)
    with pytest.raises(CorpusError, match="was cut while it was read"):
        rows.read(0, 100)
    rows.close()
