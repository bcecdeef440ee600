import numpy as np

from resizable_search.engine.parts import prefetch_rows


def test_rows_of_a_mapped_file_are_prefetched_wherever_they_lie(tmp_path):
    rows = np.arange(50_000, dtype=np.float32).reshape(1000, 50)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r").view(np.ndarray)
    prefetch_rows(mapped, [0, 10, 999])
    prefetch_rows(mapped[5:], [0, 994])
    prefetch_rows(mapped, [])
    np.testing.assert_array_equal(mapped, rows)


def test_rows_in_memory_are_left_alone():
    prefetch_rows(np.zeros((100, 10)), range(100))
