"""What was kept comes back, aligned and whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from realm_reference.model.array_cache import ALIGNMENT, ArrayCache, aligned

TABLE = {
    "codes": np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7),
    "scales": np.linspace(-1, 1, 33, dtype=np.float32),
    "nothing": np.empty((0, 4), np.int64),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


@pytest.fixture
def cache(tmp_path: Path) -> ArrayCache:
    kept = ArrayCache(tmp_path / "deep" / "packed")
    assert kept.save("one", TABLE)
    return kept


def only_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "deep" / "packed").iterdir()
    return path


def test_arrays_come_back_aligned_and_read_only(cache: ArrayCache) -> None:
    arrays = cache.load("one")
    assert arrays is not None
    assert list(arrays) == list(TABLE)
    for name, array in TABLE.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)
        assert arrays[name].ctypes.data % ALIGNMENT == 0 or not array.size
        assert not arrays[name].flags.writeable


def test_another_key_is_not_there(cache: ArrayCache) -> None:
    assert cache.load("two") is None


@pytest.mark.parametrize("position", [0, ALIGNMENT, ALIGNMENT + 3, -1, -200])
def test_a_changed_byte_counts_as_not_there(cache: ArrayCache, tmp_path: Path, position: int) -> None:
    path = only_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert cache.load("one") is None


@pytest.mark.parametrize("size", [0, 10, ALIGNMENT, 300])
def test_a_shortened_file_counts_as_not_there(cache: ArrayCache, tmp_path: Path, size: int) -> None:
    path = only_file(tmp_path)
    os.truncate(path, size)
    assert cache.load("one") is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners of files here")
def test_what_others_may_write_counts_as_not_there(cache: ArrayCache, tmp_path: Path) -> None:
    only_file(tmp_path).chmod(0o666)
    assert cache.load("one") is None


def test_the_oldest_make_room(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, max_files=2)
    for when, key in enumerate("abc"):
        assert cache.save(key, {"x": np.ones(3)})
        path = tmp_path / f"{key}.arrays"
        if path.exists():
            os.utime(path, (when, when))
        if key == "b":
            assert cache.load("a") is not None  # which makes it younger than b
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / "tmpold", tmp_path / "tmpnew"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (0, 0))
    ArrayCache(tmp_path).save("one", TABLE)
    assert not old.exists()
    assert new.exists()


def test_a_disk_that_says_no_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert not ArrayCache(tmp_path / "file" / "folder").save("one", TABLE)
    assert "every start makes it" in caplog.text


def test_aligned_copies_only_what_has_to_be() -> None:
    once = aligned(np.arange(100, dtype=np.uint8)[1:].reshape(9, 11).T)
    assert once.ctypes.data % ALIGNMENT == 0
    np.testing.assert_array_equal(once, np.arange(1, 100, dtype=np.uint8).reshape(9, 11).T)
    assert aligned(once) is once
