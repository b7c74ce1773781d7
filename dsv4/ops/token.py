"""Weights as the compiled parts of a decoded token read them (`token.c`): where they lie, and in what form.

A description holds on to the tensors that it names, and knows whether they are still where they were. Shape letters:
N rows, K columns.
"""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dsv4.ops import native
from dsv4.ops.packed import PackedLinear, PackedMatrix

Weight = Tensor | PackedMatrix
LONG, REAL, POINTER = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class Unfit(Exception):
    """The loops cannot read this weight; torch must."""


class Matrix(ctypes.Structure):
    """Rows of numbers or of packed codes."""

    _fields_ = [("data", POINTER), ("scales", POINTER), ("rows", LONG), ("columns", LONG), ("group", LONG),
                ("bits", ctypes.c_int32), ("half", ctypes.c_int32)]  # fmt: skip


def _matrices(*names: str) -> list[tuple[str, Any]]:
    return [(name, Matrix) for name in names]


class Lanes(ctypes.Structure):
    """A site of mHC and the norm behind it."""

    _fields_ = [*_matrices("fn", "base", "scale", "norm"), ("lanes", LONG), ("width", LONG), ("iterations", LONG),
                ("eps", REAL), ("norm_eps", REAL), ("site_eps", REAL)]  # fmt: skip


class Attention(ctypes.Structure):
    """Projections of latent (`folded`) or shared attention, and of its indexer."""

    _fields_ = [
        *_matrices("query_down", "query_norm", "query_up", "entry", "entry_norm", "unfold", "out", "index_query",
                   "index_key", "index_weights", "index_norm", "index_bias"), ("groups", ctypes.POINTER(Matrix)),
        *[(name, LONG) for name in ("folded", "heads", "plain", "rotated", "value", "size", "group_count",
                                    "index_heads", "index_size", "index_rotated")], ("eps", REAL), ("inner_eps", REAL),
    ]  # fmt: skip


class Unit(ctypes.Structure):
    """One gated unit."""

    _fields_ = _matrices("gate", "up", "down")


class Experts(ctypes.Structure):
    """A router and its experts beside the shared one; without a router (`count` 0) the dense unit."""

    _fields_ = [*_matrices("router", "bias"), ("shared", Unit), ("units", ctypes.POINTER(Unit)),
                *[(name, LONG) for name in ("count", "chosen", "groups", "groups_chosen", "score", "normalised")],
                ("scale", REAL), ("limit", REAL)]  # fmt: skip


class Places:
    """Where weights are looked up, and what was found there: `moved` says whether any of it is elsewhere by now."""

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._pointers: list[int] = []
        self._held: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._known: list[Any] = []
        self._kept: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("addresses cannot be copied")

    def moved(self) -> bool:
        """Whether a tensor was replaced, or its memory, or a module."""
        # This runs before every token, so it loops in C.
        if not all(map(operator.is_, map(dict.get, self._held, self._names), self._known)):
            return True
        return list(map(Tensor.data_ptr, self._tensors)) != self._pointers

    def watch(self, parent: nn.Module, *names: str) -> None:
        """Count these modules and tensors of a module among what must stay."""
        for name in names:
            for held in (parent._parameters, parent._buffers, parent._modules, parent.__dict__):
                if name not in held:
                    continue
                found = held[name]
                self._held.append(held)
                self._names.append(name)
                self._known.append(found)
                if isinstance(found, Tensor):
                    self._tensors.append(found)
                    self._pointers.append(found.data_ptr())

    def matrix(self, weight: Weight | None) -> Matrix:
        """The description of a weight; all zeros for None. Unfit where the loops cannot read it."""
        if weight is None:
            return Matrix()
        self._kept.append(weight)
        if isinstance(weight, PackedMatrix):
            rows, columns = weight.shape
            plain = weight.words_NX.is_contiguous() and weight.scales_NG.is_contiguous()
            if not plain or weight.device.type != "cpu" or weight.scales_NG.dtype not in native.FORMS:
                raise Unfit
            if not native.takes(weight.bits, rows, columns, weight.group):
                raise Unfit
            return Matrix(weight.words_NX.data_ptr(), weight.scales_NG.data_ptr(), rows, columns, weight.group,
                          weight.bits, native.FORMS[weight.scales_NG.dtype])  # fmt: skip
        bits, columns = native.ROW_BITS.get(weight.dtype), weight.shape[-1]
        if bits is None or weight.device.type != "cpu" or not weight.is_contiguous():
            raise Unfit
        rows = weight.numel() // columns
        if not native.takes(bits, rows, columns, columns) and weight.ndim > 1:
            raise Unfit
        return Matrix(weight.data_ptr(), None, rows, columns, columns, bits, 0)

    def linear(self, parent: nn.Module, name: str) -> Matrix:
        """The weight of a submodule that is a product; Unfit for any other."""
        return self.matrix(self.weight_of(parent, name))

    def weight_of(self, parent: nn.Module, name: str) -> Weight:
        """That weight itself, watched."""
        module = getattr(parent, name)
        self.watch(parent, name)
        if isinstance(module, PackedLinear):
            self.watch(module, "words_NX", "scales_NG")
            return module.matrix
        if not isinstance(module, nn.Linear) or module.bias is not None:
            raise Unfit
        self.watch(module, "weight")
        return module.weight

    def own(self, parent: nn.Module, name: str) -> Matrix:
        """A parameter or buffer of a module, watched; zeros where it is None."""
        self.watch(parent, name)
        return self.matrix(getattr(parent, name))

    def unit(self, gate: Weight, up: Weight, down: Weight) -> Unit:
        """A gated unit of three weights."""
        return Unit(self.matrix(gate), self.matrix(up), self.matrix(down))

    def array(self, kind: Any, members: Sequence[Any]) -> Any:
        """Structures one after the other, as C reads them."""
        made = (kind * len(members))(*members)
        self._kept.append(made)
        return made


def halves(weight: Weight) -> tuple[Weight, Weight]:
    """The upper and the lower half of a weight's rows."""
    if isinstance(weight, PackedMatrix):
        return weight.halves()
    upper, lower = weight.chunk(2, 0)
    return upper, lower
