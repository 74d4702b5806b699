"""CUDA through CuPy: another namespace for the same lines."""

from __future__ import annotations

from importlib import import_module

from realm_reference.compute.numpy import Arrays


def cupy_fault() -> str | None:
    """Why CuPy cannot be used here, in a few words; None if it can."""
    try:
        cupy = import_module("cupy")
        import_module("array_api_compat.cupy")
    except ImportError as error:
        return str(error)
    try:
        return None if cupy.cuda.runtime.getDeviceCount() else "no CUDA device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return str(error)


def cupy_arrays(dtype: str = "float32") -> Arrays:
    """CuPy on its current device, in float32 or float64; raises ImportError where it is not installed.

    array_api_compat gives CuPy the standard's names and signatures (asarray with a device, for one).
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype is float32 or float64, not {dtype!r}")
    xp = import_module("array_api_compat.cupy")
    return Arrays(xp, getattr(xp, dtype))
