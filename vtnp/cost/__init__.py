"""What formulas and models cost: multiply-adds, operations, bytes and peak memory, counted.

A function is run on arrays that have a shape and a dtype but no values; every operation on them is
counted instead of computed, so that any size takes no time and no memory. What counts as one
operation is stated at the head of vtnp/cost/namespace.py.

    >>> from vtnp import cost
    >>> from vtnp.encoder import attention
    >>> Q = K = V = cost.array((10**9, 64), "float32")
    >>> cost.counted(attention, Q, K, V).multiply_adds
    128000000000000000000

any function    `array`, `counted`, `counted_gradient`
a formula       `sized_call` makes its arguments from sizes, `closed_form` is what its page states
a model         `model_cost`
"""

from vtnp.cost.arrays import CostArray, Ledger
from vtnp.cost.closed_forms import ClosedFormError, closed_form
from vtnp.cost.counting import Cost, array, counted, counted_gradient
from vtnp.cost.models import ModelCost, model_cost
from vtnp.cost.sizes import SizedCall, default_sizes, size_names, sized_call

__all__ = [
    "ClosedFormError",
    "Cost",
    "CostArray",
    "Ledger",
    "ModelCost",
    "SizedCall",
    "array",
    "closed_form",
    "counted",
    "counted_gradient",
    "default_sizes",
    "model_cost",
    "size_names",
    "sized_call",
]
