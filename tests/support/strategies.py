"""Cases of formulas, for hypothesis."""

from hypothesis import strategies as st

from vtnp.claims.cases import Case, make

BATCHES = ((), (2,), (3, 1))


def cases(id: str) -> st.SearchStrategy[Case]:
    """Return the strategy of a formula's cases."""
    return st.builds(make, st.just(id), st.integers(0, 2**32 - 1), st.sampled_from(BATCHES))
