"""The cost reading: what a formula takes, counted as its own text runs on arrays without numbers.

    >>> from vtnp import cost
    >>> from vtnp.encoder import attention
    >>> Q = K = V = cost.array((10**9, 64), "float32")
    >>> cost.counted(attention, Q, K, V).multiply_adds
    128000000000000000000

An array here has a shape, a dtype and strides, and lives in a ledger instead of in memory. What is
counted, and by which rule, stands in vtnp/cost/namespace.py.
"""

from vtnp.cost.arrays import CostArray, Ledger
from vtnp.cost.counting import Cost, array, counted, counted_gradient

__all__ = ["Cost", "CostArray", "Ledger", "array", "counted", "counted_gradient"]
