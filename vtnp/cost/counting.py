"""Run a function on arrays without numbers, and tell what it took."""

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
    """What one run takes.

    multiply_adds: products that enter sums, in matmul and its kin. operations: of each kind, one
    for each element. bytes_read, bytes_written: of arrays, each operation on its own. peak_bytes:
    the most that was alive at once, arguments and results included; argument_bytes and
    result_bytes are those of these.
    """

    multiply_adds: int
    operations: Mapping[str, int]
    bytes_read: int
    bytes_written: int
    peak_bytes: int
    argument_bytes: int
    result_bytes: int


def array(shape: tuple[int, ...], dtype: Any = "float64") -> CostArray:
    """Return an array without numbers, to be counted with."""
    return Ledger().array(tuple(shape), dtype)


def counted(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Cost:
    """Return what function(*args, **kwargs) takes.

    Of every array among the arguments, and in dicts, lists and tuples of them, shape and dtype
    alone are used: each is taken as new and contiguous. Raises what the function raises.
    """
    ledger = Ledger()
    (args, kwargs), given = _brought((args, kwargs), ledger)
    return _told(ledger, given, function(*args, **kwargs))


def counted_gradient(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Cost:
    """Return what the value and the gradients of all real arrays take together, by autograd.

    The gradients are those of all real results, weighed by arrays of their own shapes that are
    given, too. Arguments as in counted.
    """
    ledger = Ledger()
    tree, given = _brought((args, kwargs), ledger)

    def of_variables(variables: list[Any]) -> Any:
        rest = iter(variables)
        args, kwargs = tree_map(lambda x: next(rest) if _is_real(x) else x, tree)
        results = function(*args, **kwargs)
        several = results if isinstance(results, list | tuple) else (results,)
        return boxed_tuple([x for x in several if is_boxed(x)])

    variables = [x for _, x in tree_leaves(tree) if _is_real(x)]
    roots = [VJPNode.new_root() for _ in variables]
    with trace_stack.new_trace() as level:
        pairs = zip(variables, roots, strict=True)
        results = of_variables([new_box(x, level, root) for x, root in pairs])
    weights, more = _brought(tuple(getattr(results, "_value", results)), ledger)
    end = getattr(results, "_node", None)
    del results
    return _told(ledger, given + more, _gradients(weights, end, variables, roots))


def _gradients(weights: Any, end: Any, variables: list[CostArray], roots: list[Any]) -> list[Any]:
    """Go back from the end to each root.

    autograd's own way takes one root alone: arrays would have to share one list, and be added to a
    list of zeros, which is counted and is no part of the gradient.
    """
    given = set(roots)
    found: dict[Any, Any] = {end: (weights, False)} if end is not None else {}
    for node in toposort(end) if end is not None else ():
        if node not in given:
            gradient, _ = found.pop(node)
            for parent, part in zip(node.parents, node.vjp(gradient), strict=True):
                found[parent] = add_outgrads(found.get(parent), part)
    return [
        found[root][0] if root in found else namespace.zeros_like(x)
        for x, root in zip(variables, roots, strict=True)
    ]


def _brought(tree: Any, ledger: Ledger) -> tuple[Any, int]:
    """Return the tree with arrays of this ledger, and their bytes."""
    before = ledger.alive
    tree = tree_map(lambda x: ledger.array(tuple(x.shape), x.dtype), tree)
    return tree, ledger.alive - before


def _is_real(x: Any) -> bool:
    return isinstance(x, CostArray) and namespace.isdtype(x.dtype, "real floating")


def _told(ledger: Ledger, given: int, results: Any) -> Cost:
    return Cost(
        multiply_adds=ledger.multiply_adds,
        operations=dict(sorted(ledger.operations.items())),
        bytes_read=ledger.bytes_read,
        bytes_written=ledger.bytes_written,
        peak_bytes=ledger.peak,
        argument_bytes=given,
        result_bytes=sum(x.size * x.dtype.itemsize for _, x in tree_leaves(results)),
    )
