"""Cases that nobody planned: drawn by hypothesis, which shrinks one that fails to the smallest."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from vtnp._registry.errors import UsageError
from vtnp._registry.spec import Entry
from vtnp.claims.families import families_for
from vtnp.verify.errors import ArgumentNotTakenError
from vtnp.verify.functions.trials import (
    DRAWN,
    Select,
    Trial,
    hashable,
    takes_inverse,
)
from vtnp.verify.judge import rounded

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

_SHRINKING_CALLS = 150  # of the candidate, after those that look for a failure


def smallest_failure(
    entry: Entry,
    dtype: str,
    batches: tuple[tuple[int, ...], ...],
    seed: int,
    sizes: Mapping[str, int],
    select: Select,
    fails: Callable[[Trial], bool],
    *,
    examples: int,
) -> Trial | None:
    """Return the smallest trial found that fails; None where none of so many examples does.

    The rest is as in trials. The same for the same seed.
    Raises UsageError without hypothesis.
    """
    try:
        from hypothesis import HealthCheck, Phase, assume, find, settings
        from hypothesis import strategies as st
        from hypothesis.errors import NoSuchExample

        from vtnp.claims import strategies
    except ImportError:
        raise UsageError("hypothesis not found: pip install 'vtnp[verify]'") from None

    of_formula = strategies.cases(
        entry.id,
        batches=batches,
        sizings=["any"],
        families=families_for(entry, dtype),
        sizes=sizes,
    )

    @st.composite
    def drawn(draw: "DrawFn") -> Trial:
        case = draw(of_formula)
        try:
            arguments = rounded(select(case.args), dtype)
            with np.errstate(all="ignore"):
                entry.function(**arguments)
        except (ValueError, ArgumentNotTakenError):  # impossible sizes, or no case for it
            assume(condition=False)
            raise
        assume(dtype == "float64" or not takes_inverse(entry, arguments))
        return Trial(arguments, dtype, DRAWN, case.family, case.batch, seed)

    # The outcome of a trial is kept, whatever a candidate does when it is called again: hypothesis
    # gives up a test whose outcome changes.
    outcomes: dict[Hashable, bool] = {}

    def is_wrong(one: Trial) -> bool:
        key = hashable(one.arguments), one.batch
        if key not in outcomes:
            outcomes[key] = len(outcomes) < examples + _SHRINKING_CALLS and fails(one)
        return outcomes[key]

    options = settings(
        database=None,
        deadline=None,
        max_examples=examples,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    with _without_files():
        try:
            found = find(drawn(), is_wrong, settings=options, random=Random(seed))  # noqa: S311
        except NoSuchExample:
            return None
    if not found.batch or () not in batches:
        return found
    # Shrinking seldom takes the batch away, since other numbers would be left.
    alone = smallest_failure(entry, dtype, ((),), seed, sizes, select, fails, examples=examples)
    return alone or found


@contextmanager
def _without_files() -> Iterator[None]:
    """Keep hypothesis' files out of the user's working folder."""
    from hypothesis.configuration import set_hypothesis_home_dir, storage_directory

    usual = storage_directory(intent_to_write=False).home_directory
    with TemporaryDirectory() as folder:
        set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            set_hypothesis_home_dir(usual)
