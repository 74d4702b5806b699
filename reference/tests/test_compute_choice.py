"""What runs a model is said once, and what cannot be is refused in a line."""

from __future__ import annotations

import logging
import pickle
import sys
from pathlib import Path

import pytest
from realm_reference.model import compute
from realm_reference.model.compute import NUMPY, Compute, ComputeError, choose_compute, choose_gpu

numba = pytest.importorskip("numba")


@pytest.fixture(params=["Numba is not installed", None])
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    monkeypatch.setattr(compute, "jit_fault", lambda: request.param)
    return request.param  # type: ignore[no-any-return]


def test_the_best_that_can_run_is_chosen_and_said(
    fault: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        chosen = choose_compute(threads=3)
    assert chosen == (NUMPY if fault else Compute("jit", "exact", 3))
    (line,) = caplog.messages
    assert line == (
        "computing: NumPy, float32 (the compiled path cannot run: Numba is not installed)"
        if fault
        else "computing: compiled, exact, 3 threads"
    )


def test_what_was_asked_for_and_cannot_be_is_refused(fault: str | None) -> None:
    with pytest.raises(ComputeError, match="--precision int8 needs the compiled path"):
        choose_compute("numpy", "int8")
    if fault:
        with pytest.raises(ComputeError, match="--compute jit cannot run here: Numba is not installed"):
            choose_compute("jit")
        with pytest.raises(ComputeError, match="--precision int8 needs the compiled path: Numba"):
            choose_compute(precision="int8")
    else:
        assert choose_compute("jit", "int8", 1) == Compute("jit", "int8", 1)


def test_numpy_is_taken_when_asked_for() -> None:
    assert choose_compute("numpy") == NUMPY


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "cupy_fault", lambda: "no CUDA device")
    with pytest.raises(ComputeError, match="--gpu cannot run here: no CUDA device; leave it out"):
        choose_gpu()
    monkeypatch.setattr(compute, "cupy_fault", lambda: None)
    assert str(choose_gpu()) == "CuPy, float32"
    with pytest.raises(ComputeError, match="--gpu runs plain float32 arrays"):
        choose_gpu("jit")
    with pytest.raises(ComputeError, match="--gpu runs plain float32 arrays"):
        choose_gpu("auto", "int8")


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 2), (8, 8)])
def test_a_thread_a_processor_but_one_where_there_are_no_semaphores(
    processors: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "jit_fault", lambda: None)
    monkeypatch.setattr(compute, "available_threads", lambda: processors)
    assert choose_compute().threads == (1 if sys.platform == "darwin" else threads)


def test_a_processor_without_fused_products_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = pytest.importorskip("realm_reference.compute.jit.cpu")
    monkeypatch.setattr(cpu, "FUSED", False)
    assert compute.jit_fault() == "the processor has no fused multiply-add (FMA)"


def test_a_numba_that_does_not_fit_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "realm_reference.compute.jit.cpu", None)
    assert str(compute.jit_fault()).startswith("Numba cannot be imported")


@pytest.fixture
def numba_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)


@pytest.mark.usefixtures("numba_folder")
def test_compiled_code_is_kept_in_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from realm_reference.compute.jit import code_cache

    first = code_cache.keep_code_below(tmp_path / "kernels")
    assert "compiling the kernels" in caplog.text
    assert first.parent == tmp_path / "kernels"
    assert first.stat().st_mode & 0o777 == 0o700
    assert str(first) == numba.config.CACHE_DIR
    assert code_cache.keep_code_below(tmp_path / "kernels") == first
    monkeypatch.setattr(numba.config, "CPU_FEATURES", "+avx2,+fma")
    assert code_cache.keep_code_below(tmp_path / "kernels") != first


@pytest.mark.usefixtures("numba_folder")
def test_a_folder_that_others_may_enter_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from realm_reference.compute.jit import code_cache

    tmp_path.chmod(0o755)
    folder = code_cache.keep_code_below(tmp_path)
    assert tmp_path not in folder.parents
    assert "every start compiles it" in caplog.text


@pytest.mark.usefixtures("numba_folder")
def test_old_code_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from realm_reference.compute.jit import code_cache

    tmp_path.chmod(0o700)
    for number in range(code_cache.MAX_FOLDERS + 2):
        monkeypatch.setattr(numba.config, "CPU_NAME", f"cpu{number}")
        newest = code_cache.keep_code_below(tmp_path)
    assert len(list(tmp_path.iterdir())) == code_cache.MAX_FOLDERS
    assert newest.exists()


@pytest.mark.usefixtures("numba_folder")
def test_damaged_code_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from realm_reference.compute.jit import code_cache

    tmp_path.chmod(0o700)
    folder = code_cache.keep_code_below(tmp_path) / "kernels"
    folder.mkdir()
    index, code = folder / "step.nbi", folder / "step.1.nbc"
    index.write_bytes(pickle.dumps("0.1") + pickle.dumps({"key": "step.1.nbc"}))
    code.write_bytes(pickle.dumps(b"code" * 100))
    code_cache.keep_code_below(tmp_path)
    assert index.exists()
    code.write_bytes(code.read_bytes()[:-20])
    code_cache.keep_code_below(tmp_path)
    assert not folder.exists()
    assert "damaged" in caplog.text
