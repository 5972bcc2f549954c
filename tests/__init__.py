"""The tests; here so that a claim that fails tells what it compared, and for what comes first.

Numerical libraries look once, when they are loaded, how many threads they may have. Each process of
the tests gets one, since there are as many processes as cores.
"""

import os

import pytest

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")  # no window is opened

pytest.register_assert_rewrite("vtnp.claims")
