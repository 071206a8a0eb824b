"""Triton's interpreter with ``tl.dot`` as tensor cores compute it: ``pytest -p tensor_cores``, or ``emulated()``.

The interpreter's own dots are float32 products of numpy, whatever their precision is called. Here float32 operands are
rounded to TF32 as the compiler's code does it, and products are added as measured on the hardware: a few at a time,
aligned to the largest, with one extra bit, truncated.

Source: Fasi, Higham, Mikaitis, Pranesh 2021, "Numerical behavior of NVIDIA tensor cores".
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

TERMS_AT_ONCE = 4
EXTRA_BITS = 1
DOTS: Counter[str] = Counter()
"""Number of emulated dots of each kind."""


def round_to_tf32(values: np.ndarray) -> np.ndarray:
    """Round float32 to the nearest TF32 number, ties away from zero (cvt.rna)."""
    bits = values.astype(np.float32).view(np.uint32).copy()
    finite = np.isfinite(values)
    bits[finite] = (bits[finite] + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return bits.view(np.float32)


def truncate_to_tf32(values: np.ndarray) -> np.ndarray:
    """Drop the bits that the tensor core does not read."""
    return (values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def multiply_add(left: np.ndarray, right: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return ``total + left @ right`` as tensor cores add."""
    left, right, total = left.astype(np.float64), right.astype(np.float64), total.astype(np.float32)
    for start in range(0, left.shape[-1], TERMS_AT_ONCE):
        products = left[:, start : start + TERMS_AT_ONCE, None] * right[None, start : start + TERMS_AT_ONCE, :]
        terms = np.concatenate([products, total.astype(np.float64)[:, None, :]], axis=1)
        largest = np.abs(terms).max(axis=1)
        aligned = np.isfinite(terms).all(axis=1) & (largest > 0)
        exponent = np.zeros_like(largest)
        exponent[aligned] = np.floor(np.log2(largest[aligned]))
        unit = np.exp2(exponent - 23 - EXTRA_BITS)
        kept = (np.trunc(terms / unit[:, None, :]) * unit[:, None, :]).sum(axis=1)
        total = _truncate_to_float32(np.where(aligned, kept, terms.sum(axis=1)))
    return total


def _truncate_to_float32(values: np.ndarray) -> np.ndarray:
    rounded = values.astype(np.float32)
    over = np.isfinite(values) & (np.abs(rounded.astype(np.float64)) > np.abs(values))
    rounded[over] = np.nextafter(rounded[over], np.float32(0))
    return rounded


def multiply_tf32x3(left: np.ndarray, right: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return ``total + left @ right`` by three TF32 products, as Triton's compiler splits them."""
    big_left, big_right = round_to_tf32(left), round_to_tf32(right)
    small_left, small_right = truncate_to_tf32(left - big_left), truncate_to_tf32(right - big_right)
    small = multiply_add(big_left, small_right, multiply_add(small_left, big_right, np.zeros_like(total)))
    small = np.where(np.isnan(small), np.float32(0), small)
    return (multiply_add(big_left, big_right, small) + total).astype(np.float32)


def _create_dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    left, right = a.data, b.data
    with np.errstate(all="ignore"):
        if a.dtype.scalar == tl.bfloat16:
            DOTS["bf16"] += 1
            result = multiply_add(_from_bfloat16(left), _from_bfloat16(right), d.data)
        elif str(input_precision).endswith("TF32x3"):
            DOTS["tf32x3"] += 1
            result = multiply_tf32x3(left, right, d.data)
        else:
            return _INTERPRETERS_DOT(self, a, b, d, input_precision, max_num_imprecise_acc)
    return TensorHandle(result.astype(d.data.dtype), d.dtype.scalar)


def _from_bfloat16(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint16:  # the interpreter keeps bits
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


def _cast(self: Any, source: Any, target: Any) -> Any:
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    if source.dtype.scalar != tl.float32 or target.scalar != tl.bfloat16:
        return _INTERPRETERS_CAST(self, source, target)
    bits = source.data.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
    rounded[np.isnan(source.data)] = 0x7FC0
    return TensorHandle(rounded, target.scalar)


def sums_are_truncated() -> bool:
    """Whether fused kernels add products as tensor cores do: on a GPU, or while they are emulated."""
    return torch.cuda.is_available() or _is_emulating


_is_emulating = False
_INTERPRETERS_DOT: Any = None
_INTERPRETERS_CAST: Any = None


@contextlib.contextmanager
def emulated() -> Iterator[Counter[str]]:
    """Emulate tensor cores in the interpreter; yields the number of dots of each kind, from 0."""
    global _INTERPRETERS_DOT, _INTERPRETERS_CAST, _is_emulating
    from triton.runtime.interpreter import InterpreterBuilder

    _INTERPRETERS_DOT, _INTERPRETERS_CAST = InterpreterBuilder.create_dot, InterpreterBuilder.cast_impl
    changed = {
        "create_dot": _create_dot,
        "cast_impl": _cast,
        "create_fp_trunc": lambda self, source, target: self.cast_impl(source, target),
    }
    DOTS.clear()
    with mock.patch.multiple(InterpreterBuilder, **changed):
        _is_emulating = True
        try:
            yield DOTS
        finally:
            _is_emulating = False


_session = contextlib.ExitStack()


def pytest_configure() -> None:
    """Emulate tensor cores in every test of the session."""
    _session.enter_context(emulated())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show that the dots were emulated."""
    terminalreporter.write_line(f"emulated dots: {dict(DOTS)}")


def pytest_unconfigure() -> None:
    """Return the interpreter's own dots."""
    _session.close()
