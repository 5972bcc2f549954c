"""The tests; here so that a claim that fails tells what it compared."""

import pytest

pytest.register_assert_rewrite("vtnp.claims")
