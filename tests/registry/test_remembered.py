"""Kinds of calls that were right are remembered: not checked again, and nothing is kept alive."""

import gc
import weakref

import numpy as np
import pytest

import vtnp
from vtnp._registry import contract
from vtnp._registry.errors import ShapeError


@pytest.fixture
def checks(monkeypatch):
    """The formulas whose arguments were checked, in order."""
    seen = []
    check = contract.check_arguments

    def counted(what, signature, arguments):
        seen.append(what.partition(" ")[0])
        return check(what, signature, arguments)

    monkeypatch.setattr(contract, "check_arguments", counted)
    return seen


def arrays(n, d):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((n, d)) for _ in range(2)]


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": None}, {"scale": 0.5}, {"scale": 2}, {"mask": None, "scale": np.float64(0.5)}],
)
def test_a_call_of_a_known_kind_is_not_checked_again(checks, options):
    Q, K = arrays(19, 23)
    first = vtnp.encoder.attention_weights(Q, K, **options)
    checks.clear()
    assert np.array_equal(vtnp.encoder.attention_weights(Q, K, **options), first)
    assert np.all(vtnp.encoder.attention_weights(Q + 1.0, K, **options) > 0.0)
    assert checks == []


@pytest.mark.parametrize("change", [{"scale": 0.25}, {"K": np.ones((18, 29))}])
def test_a_call_of_another_kind_is_checked(checks, change):
    Q, K = arrays(17, 29)
    vtnp.encoder.attention_weights(Q, K)
    checks.clear()
    vtnp.encoder.attention_weights(**{"Q": Q, "K": K} | change)
    assert "attention-weights" in checks


def test_a_word_is_remembered(checks):
    x = np.ones((3, 31))
    vtnp.encoder.gelu(x, approximate="tanh")
    checks.clear()
    vtnp.encoder.gelu(x, approximate="tanh")
    assert checks == []


def test_a_generator_is_not_kept_alive():
    class Watched(np.random.Generator):
        """Unlike its base it can be watched."""

    rng = Watched(np.random.PCG64(0))
    candidates = rng.standard_normal((2, 3, 5, 7))
    vtnp.motionformer.trajectory_prototypes(candidates, 2, rng=rng)
    alive = weakref.ref(rng)
    del rng
    gc.collect()
    assert alive() is None


def test_flags_reach_a_function_as_pythons_own():
    seen = []

    def note(call, proceed):
        return proceed(call.replace(function=lambda **given: seen.append(given["shared"])))

    candidates = np.random.default_rng(0).standard_normal((3, 5, 7))
    with vtnp.intercept(note, ids=["trajectory-prototypes"]), vtnp.unchecked():
        vtnp.motionformer.trajectory_prototypes(candidates, 2, shared=np.True_)
    assert seen == [True]
    assert type(seen[0]) is bool


def test_members_of_a_list_belong_to_the_kind(checks):
    """A list of arrays of another dtype or shape is checked, though it is a list like the first."""
    rng = np.random.default_rng(1)
    outputs, logs = ([rng.standard_normal(shape) for _ in "ab"] for shape in ((1, 7, 2), (1, 7)))
    vtnp.longnet.mix_branches(outputs, logs)
    checks.clear()
    vtnp.longnet.mix_branches(outputs, logs)
    assert checks == []
    with pytest.raises(TypeError, match="arguments mix dtypes"):
        vtnp.longnet.mix_branches([x.astype(np.float32) for x in outputs], logs)
    with pytest.raises(ShapeError):
        vtnp.longnet.mix_branches([x[:, :6] for x in outputs], logs)


def test_a_known_kind_computes_on_its_device_as_well(monkeypatch):
    entered = []

    class Device:
        def __enter__(self):
            entered.append("in")

        def __exit__(self, *_):
            entered.append("out")

    monkeypatch.setattr(contract, "on_device_of", lambda *_: Device())
    x = np.random.default_rng(2).standard_normal((37, 41))
    first = vtnp.encoder.relu(x)
    assert entered == ["in", "out"]
    assert np.array_equal(vtnp.encoder.relu(x), first)
    assert entered == ["in", "out"] * 2
