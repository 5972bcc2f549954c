"""Boxes and vector spaces for the arrays that autograd does not know, and repairs for NumPy's."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import array_api_compat
import autograd.numpy as anp
import numpy as np
from autograd import tracer
from autograd.extend import Box, VSpace, defvjp, vspace
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.numpy.numpy_vjps import untake

from vtnp._array import primitives as p
from vtnp._array import rules
from vtnp._array.traced import traced
from vtnp._array.values import is_array_type, unboxed, value_namespace


class StandardBox(Box):  # type: ignore[misc]
    """An array of the standard that is being differentiated."""

    __slots__ = ()
    __array_ufunc__ = None  # NumPy and CuPy then leave `array @ box` to the box.
    __hash__ = Box.__hash__

    shape = property(lambda self: unboxed(self).shape)
    ndim = property(lambda self: unboxed(self).ndim)
    size = property(lambda self: math.prod(unboxed(self).shape))
    dtype = property(lambda self: unboxed(self).dtype)
    device = property(lambda self: array_api_compat.device(unboxed(self)))
    T = property(p.matrix_transpose)
    mT = property(p.matrix_transpose)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return traced(value_namespace(self))

    def __getitem__(self, index: Any) -> Any:
        if not p.is_basic(index):
            raise TypeError("a box takes integers, slices, None and ...; for indices use take")
        return p.getitem(self, index)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Any]:
        return iter(p.unstack(self))


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: function(other, self)


for _name, _function in {
    "add": p.add,
    "sub": p.subtract,
    "mul": p.multiply,
    "truediv": p.divide,
    "pow": p.pow,
    "matmul": p.matmul,
}.items():
    setattr(StandardBox, f"__{_name}__", _function)
    setattr(StandardBox, f"__r{_name}__", _reflected(_function))

for _name, _function in {
    "neg": p.negative,
    "abs": p.abs,
    "eq": p.constant("equal"),
    "ne": p.constant("not_equal"),
    "lt": p.constant("less"),
    "le": p.constant("less_equal"),
    "gt": p.constant("greater"),
    "ge": p.constant("greater_equal"),
}.items():
    setattr(StandardBox, f"__{_name}__", _function)


class ArraySpace(VSpace):  # type: ignore[misc]
    """The arrays of one library, shape, dtype and device."""

    def __init__(self, value: Any) -> None:
        self.xp = value_namespace(value)
        self.shape = tuple(value.shape)
        self.like = p.like(value)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def zeros(self) -> Any:
        return self.xp.zeros(self.shape, **self.like)

    def ones(self) -> Any:
        return self.xp.ones(self.shape, **self.like)

    def standard_basis(self) -> Iterator[Any]:
        positions = self.xp.arange(self.size, device=self.like["device"])
        for i in range(self.size):
            one = self.xp.astype(self.xp.equal(positions, i), self.like["dtype"])
            yield self.xp.reshape(one, self.shape)

    def _add(self, x: Any, y: Any) -> Any:
        return self.xp.add(x, y)

    # Out of place: some of these arrays cannot be written to.
    _mut_add = _add

    def _scalar_mul(self, x: Any, a: Any) -> Any:
        return self.xp.multiply(x, a)

    def _inner_prod(self, x: Any, y: Any) -> Any:
        return self.xp.sum(self.xp.multiply(x, y))


class _ByType(dict[type, Any]):
    """A table of types that adds an entry when it is first asked for a class of arrays.

    autograd looks up exact types, and `autograd.grad(f)(x)` boxes x before any function of vtnp is
    called. Registering torch.Tensor beforehand would mean importing torch; this table adds a class
    of arrays on its first lookup.
    """

    def __init__(self, known: dict[type, Any], answer: type) -> None:
        super().__init__(known)
        self._answer = answer

    def __missing__(self, cls: type) -> Any:
        if issubclass(cls, Box) or not is_array_type(cls):
            raise KeyError(cls)
        self[cls] = self._answer
        return self._answer


StandardBox.register(StandardBox)
tracer.box_type_mappings = Box.type_mappings = _ByType(Box.type_mappings, StandardBox)
VSpace.mappings = _ByType(VSpace.mappings, ArraySpace)

# --- NumPy's arrays -------------------------------------------------------------------------------


def _of_arrays(rule: p.Function) -> p.Function:
    """The rule for functions of autograd.numpy, which take lists for arrays."""

    def of_arrays(g: Any, *args: Any) -> Any:
        return rule(g, *(np.asarray(x) if isinstance(x, list | tuple) else x for x in args))

    return of_arrays


# What operators on autograd's own box meet, and what autograd 1.9 gets wrong or slowly there:
# powers and selections of float32 had float64 gradients, selections were never un-broadcast,
# basic indices went through np.add.at, a matrix times a batch took an outer product for each
# element, and quotients squared the denominator.
rules.elementwise(anp.true_divide, *map(_of_arrays, rules.QUOTIENT))
rules.elementwise(anp.divide, *map(_of_arrays, rules.QUOTIENT))
rules.elementwise(anp.power, *map(_of_arrays, rules.POWER))
rules.linear(anp.matmul, *map(_of_arrays, rules.MATMUL))
# autograd.numpy.where is a plain function around the primitive.
rules.elementwise(
    tracer.trace_primitives_map[np.where], *(rule and _of_arrays(rule) for rule in rules.SELECTION)
)
defvjp(
    ArrayBox.__getitem__,
    lambda ans, x, index: (
        lambda g: (p.ungetitem if p.is_basic(index) else untake)(g, index, vspace(x))
    ),
)

# Two attributes of the standard that it lacks.
ArrayBox.device = property(lambda self: array_api_compat.device(unboxed(self)))
ArrayBox.mT = property(p.matrix_transpose)
