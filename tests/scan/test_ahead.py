import numpy as np

from resizable_search.scan.ahead import read_ahead


def test_rows_of_a_mapped_file_are_asked_for_whatever_the_range(tmp_path):
    rows = np.arange(50_000, dtype=np.float32).reshape(1000, 50)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r").view(np.ndarray)
    for start, stop in ((0, 1000), (10, 11), (999, 1000), (0, 5000), (1000, 1000), (7, 3)):
        read_ahead(mapped, start, stop)
        read_ahead(mapped[5], start, stop)
    np.testing.assert_array_equal(mapped, rows)


def test_rows_in_memory_are_left_alone():
    read_ahead(np.zeros((100, 10)), 0, 100)
