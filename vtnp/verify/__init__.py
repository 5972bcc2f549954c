"""Check somebody else's implementation of a formula, and name its mistake.

>>> import numpy as np
>>> from vtnp.verify import check
>>> def unscaled(Q, K):
...     e = np.exp(Q @ np.swapaxes(K, -1, -2))
...     return e / e.sum(axis=-1, keepdims=True)
>>> report = check(unscaled, "attention-weights")
>>> report.right, report.findings[0].title
(False, 'no-scale (attention-weights)')

"""

from vtnp.verify.errors import CandidateError
from vtnp.verify.functions.check import check
from vtnp.verify.report import Finding, Line, Report

__all__ = ["CandidateError", "Finding", "Line", "Report", "check"]
