"""Cases that nobody planned: drawn by hypothesis, which shrinks one that fails to the smallest."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.errors import UsageError
from vtnp._registry.spec import Entry
from vtnp.claims.cases import Draw, build
from vtnp.verify.errors import ArgumentNotTakenError
from vtnp.verify.functions.trials import (
    DRAWN,
    Select,
    Trial,
    hashable,
    takes_inverse,
    trial,
    values_for,
)

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

_LARGEST_SIZE = 4  # of an axis: hypothesis draws number by number
_LARGEST_DIGIT = 3
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
    except ImportError:
        raise UsageError("hypothesis not found: pip install 'vtnp[verify]'") from None

    @st.composite
    def drawn(draw: "DrawFn") -> Trial:
        values = draw(st.sampled_from(values_for(entry, dtype)))
        batch = draw(st.sampled_from(batches))
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        try:
            case = build(entry.id, _Drawn(rng, batch, dict(sizes), draw=draw))
            one = trial(entry, select(case.args), dtype, DRAWN, values, batch, seed)
        except (ValueError, ArgumentNotTakenError):  # impossible sizes, or no case for it
            assume(condition=False)
            raise
        assume(dtype == "float64" or not takes_inverse(entry, one.arguments))
        return one

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
            return find(drawn(), is_wrong, settings=options, random=Random(seed))  # noqa: S311
        except NoSuchExample:
            return None


@dataclass
class _Drawn(Draw):
    """Small sizes and digits, drawn by hypothesis; what builders choose, by a generator."""

    draw: "DrawFn" = field(kw_only=True)

    def _size(self) -> int:
        from hypothesis import strategies as st

        return self.draw(st.integers(1, _LARGEST_SIZE))

    def array(self, text: str) -> NDArray[Any]:
        from hypothesis import strategies as st
        from hypothesis.extra import numpy as arrays

        digits = st.integers(-_LARGEST_DIGIT, _LARGEST_DIGIT).map(float)
        return self.draw(arrays.arrays(np.float64, self.shape(text), elements=digits))

    def chance(self) -> bool:
        from hypothesis import strategies as st

        return self.draw(st.booleans())


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
