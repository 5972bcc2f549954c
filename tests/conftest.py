"""Hypothesis profiles: a short derandomised one for every run, a deep one by hand."""

import os

from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "vtnp", max_examples=15, deadline=None, derandomize=True, database=None, print_blob=True,
    suppress_health_check=_SLOW,
)
settings.register_profile(
    "deep", max_examples=500, deadline=None, print_blob=True, suppress_health_check=_SLOW
)
settings.load_profile(os.environ.get("VTNP_HYPOTHESIS", "vtnp"))
