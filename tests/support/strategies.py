"""Cases of formulas, for hypothesis, and what is put to them."""

from contextlib import nullcontext

import numpy as np
from hypothesis import assume, note
from hypothesis import strategies as st

from vtnp.claims import Claim, check_claim, statement
from vtnp.claims.cases import Case, make
from vtnp.claims.errors import NotApplicableError
from vtnp.claims.strategies import BATCHES, DTYPES, SIZINGS, cases

__all__ = ["BATCHES", "DTYPES", "SIZINGS", "cases", "put", "seeded"]


def seeded(id: str) -> st.SearchStrategy[Case]:
    """Return cases of typical numbers, which keep away from kinks."""
    return st.builds(make, st.just(id), st.integers(0, 2**32 - 1), st.sampled_from(BATCHES))


def put(claim: Claim, case: Case) -> None:
    """Put a claim to a drawn case; where it fails, note the line of Python that shows it."""
    is_hard = case.family != "typical" or case.dtype != "float64"
    try:
        with np.errstate(all="ignore") if is_hard else nullcontext():
            check_claim(claim, case)
    except NotApplicableError:
        assume(condition=False)
    except Exception:
        note(statement(claim, case))
        raise
