"""Run a function on arrays without values, and count its cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autograd.builtins import tuple as boxed_tuple
from autograd.core import VJPNode, add_outgrads
from autograd.tracer import new_box, toposort, trace_stack

from vtnp._array.trees import tree_leaves, tree_map
from vtnp._array.xp import is_boxed
from vtnp.cost import namespace
from vtnp.cost.arrays import CostArray, Ledger


@dataclass(frozen=True)
class Cost:
    """The cost of one run of a function.

    Attributes
    ----------
    multiply_adds : int
        Products that are added to sums, in matmul and similar functions (MACs).
    operations : Mapping[str, int]
        Elementwise operations and reductions by name, one for each element.
    bytes_read, bytes_written : int
        Memory traffic, summed over all operations: nothing is fused or cached.
    peak_bytes : int
        Peak memory, arguments and results included.
    argument_bytes, result_bytes : int
        The bytes of these arguments and results.
    """

    multiply_adds: int
    operations: Mapping[str, int]
    bytes_read: int
    bytes_written: int
    peak_bytes: int
    argument_bytes: int
    result_bytes: int


def array(shape: tuple[int, ...], dtype: Any = "float64") -> CostArray:
    """Return an array without values, to count with.

    Parameters
    ----------
    shape : tuple of int
        Sizes of the axes, of any magnitude: nothing is allocated.
    dtype : data type, optional
        Anything that NumPy takes for a dtype.

    Returns
    -------
    CostArray
        A contiguous array. Operations on it are counted in its ledger, its `device`.

    Examples
    --------
    >>> from vtnp import cost
    >>> cost.array((10**9, 64), "float32")
    CostArray((1000000000, 64), float32)
    """
    return Ledger().array(tuple(shape), dtype)


def counted(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Cost:
    """Count what function(*args, **kwargs) takes.

    Parameters
    ----------
    function : Callable
        A formula, a model's `apply`, or any function in array-API operations.
    *args, **kwargs
        Its arguments. Arrays may be of `vtnp.cost.array` or of NumPy, also in dicts, lists and
        tuples. Only their shape and dtype count: each is taken as new and contiguous.

    Returns
    -------
    Cost
        What the run takes.

    Raises
    ------
    Exception
        Whatever the function raises.

    Notes
    -----
    What counts as one operation is stated at the head of vtnp/cost/namespace.py.

    Examples
    --------
    >>> from vtnp import cost, encoder
    >>> Q = K = V = cost.array((10**9, 64), "float32")
    >>> cost.counted(encoder.attention, Q, K, V).multiply_adds
    128000000000000000000
    """
    ledger = Ledger()
    (args, kwargs), argument_bytes = _moved_to(ledger, (args, kwargs))
    return _cost(ledger, argument_bytes, function(*args, **kwargs))


def counted_gradient(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Cost:
    """Count what a function's value and its gradients, by autograd, take together.

    Parameters
    ----------
    function : Callable
        A formula, a model's `apply`, or any function in array-API operations.
    *args, **kwargs
        Its arguments, as `counted` takes them.

    Returns
    -------
    Cost
        What the run takes. Its results are the gradients with respect to all real arrays among the
        arguments, those in dicts, lists and tuples included. Its arguments include one array for
        each real result, of that result's shape: the gradient that comes from outside.

    Raises
    ------
    Exception
        Whatever the function raises.

    Examples
    --------
    >>> from vtnp import cost, encoder
    >>> Q = K = V = cost.array((1000, 64), "float32")
    >>> value = cost.counted(encoder.attention, Q, K, V)
    >>> both = cost.counted_gradient(encoder.attention, Q, K, V)
    >>> both.multiply_adds // value.multiply_adds
    3
    """
    ledger = Ledger()
    tree, argument_bytes = _moved_to(ledger, (args, kwargs))

    def of_variables(variables: list[Any]) -> Any:
        rest = iter(variables)
        args, kwargs = tree_map(lambda x: next(rest) if _is_real(x) else x, tree)
        results = function(*args, **kwargs)
        all_results = results if isinstance(results, list | tuple) else (results,)
        return boxed_tuple([x for x in all_results if is_boxed(x)])

    variables = [x for _, x in tree_leaves(tree) if _is_real(x)]
    roots = [VJPNode.new_root() for _ in variables]
    with trace_stack.new_trace() as level:
        pairs = zip(variables, roots, strict=True)
        results = of_variables([new_box(x, level, root) for x, root in pairs])
    cotangents, cotangent_bytes = _moved_to(ledger, tuple(getattr(results, "_value", results)))
    end = getattr(results, "_node", None)
    del results
    gradients = _gradients(cotangents, end, variables, roots)
    return _cost(ledger, argument_bytes + cotangent_bytes, gradients)


def _gradients(
    cotangents: Any, end: Any, variables: list[CostArray], roots: list[Any]
) -> list[Any]:
    """Go back from the end to each root.

    autograd's own backward pass takes one root alone: arrays would have to share one list, and be
    added to a list of zeros, which would be counted and is not a part of the gradient.
    """
    is_root = set(roots)
    gradients: dict[Any, Any] = {end: (cotangents, False)} if end is not None else {}
    for node in toposort(end) if end is not None else ():
        if node not in is_root:
            gradient, _ = gradients.pop(node)
            for parent, term in zip(node.parents, node.vjp(gradient), strict=True):
                gradients[parent] = add_outgrads(gradients.get(parent), term)
    return [
        gradients[root][0] if root in gradients else namespace.zeros_like(x)
        for x, root in zip(variables, roots, strict=True)
    ]


def _moved_to(ledger: Ledger, tree: Any) -> tuple[Any, int]:
    """Return the tree with its arrays anew on a ledger, and their bytes."""
    before = ledger.allocated_bytes
    tree = tree_map(lambda x: ledger.array(tuple(x.shape), x.dtype), tree)
    return tree, ledger.allocated_bytes - before


def _is_real(x: Any) -> bool:
    return isinstance(x, CostArray) and namespace.isdtype(x.dtype, "real floating")


def _cost(ledger: Ledger, argument_bytes: int, results: Any) -> Cost:
    return Cost(
        multiply_adds=ledger.multiply_adds,
        operations=dict(sorted(ledger.operations.items())),
        bytes_read=ledger.bytes_read,
        bytes_written=ledger.bytes_written,
        peak_bytes=ledger.peak_bytes,
        argument_bytes=argument_bytes,
        result_bytes=sum(x.size * x.dtype.itemsize for _, x in tree_leaves(results)),
    )
