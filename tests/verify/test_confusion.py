"""Every usual mistake, put to the check as somebody's candidate, must be found and named as itself.

Another formula's mistake may make the very same numbers, such as the sigmoid of softmax within
attention: the finding then names both. That they are the same is seen here on further cases.
"""

import inspect

import numpy as np
import pytest

from tests.support.strategies import BATCHES
from vtnp._registry.spec import registry
from vtnp.claims.cases import make
from vtnp.mistakes import mistakes
from vtnp.verify import check
from vtnp.verify.functions.diagnose import with_mistakes
from vtnp.verify.judge import agrees, results_of

# Their values are right, and only their gradients are not.
OF_GRADIENTS = {
    ("layer-norm", "detached-statistics"),
    ("mix-branches", "detached-weights"),
    ("softmax", "diagonal-gradient"),
}
FURTHER = range(1000, 1012)


def checked(id, name):
    candidate = mistakes[id, name]
    of_gradients = (id, name) in OF_GRADIENTS
    return check(
        candidate,
        id,
        names=passed_on(id, candidate),
        library="autograd" if of_gradients else "numpy",
        dtypes=("float64",),
        gradients=of_gradients,
        examples=0,
    )


def passed_on(id, candidate):
    """The arguments that a mistake takes as **options, by their names."""
    parameters = inspect.signature(candidate).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return {}
    formula = inspect.signature(registry[id].function).parameters
    return {name: name for name in formula if name not in parameters}


def title(key):
    return f"{key[1]} ({key[0]})"


@pytest.mark.parametrize(("id", "name"), list(mistakes))
def test_mistake_is_named(id, name, record_property):
    report = checked(id, name)
    assert not report.right
    named = next((each for each in report.findings if each.mistakes), None)
    assert named is not None, f"found wrong, but named nothing: {report.failures()[:2]}"
    found = {title(key) for key in named.mistakes} | set(named.equivalents)
    record_property("verified", " = ".join(sorted(found)))
    assert len(named.mistakes) == 1
    assert title((id, name)) in found, f"taken for {', '.join(found)}"
    for other in found - {title((id, name))}:
        key = next(key for key in mistakes if title(key) == other)
        assert_same_numbers(id, (id, name), key)


def assert_same_numbers(id, key, other):
    for seed in FURTHER:
        case = make(id, seed, BATCHES[seed % len(BATCHES)])
        numbers = results_of(with_mistakes(id, (key,)), case.args)
        same = agrees(with_mistakes(id, (other,)), case.args, numbers, "float64")
        assert same, f"{title(key)} is taken for {title(other)}; seed {seed} tells them apart"


def test_further_cases_tell_others_apart():
    """Or else the comparison above would see nothing."""
    over_queries, sigmoid = ("attention", "softmax-over-queries"), ("softmax", "sigmoid")
    with pytest.raises(AssertionError, match="tells them apart"):
        assert_same_numbers("attention", over_queries, sigmoid)


def test_two_mistakes_at_once_are_named_as_a_pair():
    def unscaled_unshifted(Q, K):
        exponentials = np.exp(Q @ np.swapaxes(K, -1, -2))
        return exponentials / exponentials.sum(axis=-1, keepdims=True)

    report = check(unscaled_unshifted, "attention-weights", dtypes=("float64",), gradients=False)
    assert not report.right
    keys = {("attention-weights", "no-scale"), ("softmax", "no-shift")}
    assert set(report.findings[0].mistakes) == keys


def test_right_numbers_are_named_nothing():
    def right(x):
        shifted = np.exp(x - x.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)

    report = check(right, "softmax", dtypes=("float64",))
    assert report.right
    assert report.findings == ()
