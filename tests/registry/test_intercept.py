"""Interceptors: what a handler sees, what it may change, and where it is active."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from autograd import grad

import vtnp
from tests.registry import layers
from vtnp._array.typing import Array, Float
from vtnp._array.xp import namespace
from vtnp._registry.spec import registry, spec

RNG = np.random.default_rng(7)
Q, K, V = RNG.normal(size=(3, 4)), RNG.normal(size=(5, 4)), RNG.normal(size=(5, 2))
ATTENTION = ["attention", "attention/attention-weights", "attention/attention-weights/softmax"]


def passed_on(call, proceed):
    return proceed(call)


def noted(calls):
    """Return a handler that notes every call, and changes nothing."""

    def note(call, proceed):
        calls.append(call)
        return proceed(call)

    return note


def scaled_by(factor, id="attention"):
    """Return a handler that multiplies the results of a formula."""

    def scale(call, proceed):
        result = proceed(call)
        return factor * result if call.id == id else result

    return scale


def attend():
    return vtnp.encoder.attention(Q, K, V)


# --- What a handler sees --------------------------------------------------------------------------


def test_a_handler_sees_every_call_with_its_arguments_by_name():
    calls = []
    with vtnp.intercept(noted(calls)):
        result = vtnp.encoder.attention(Q, K, V=V, scale=0.5)
    assert np.array_equal(result, vtnp.encoder.attention(Q, K, V, scale=0.5))
    assert [call.id for call in calls] == ["attention", "attention-weights", "softmax"]
    assert [call.path for call in calls] == ATTENTION
    assert [call.within for call in calls] == [
        (),
        ("attention",),
        ("attention", "attention-weights"),
    ]
    first = calls[0].arguments
    assert list(first) == ["Q", "K", "V", "scale"]
    assert first["Q"] is Q
    assert first["V"] is V
    assert calls[0].checked


def test_a_handler_sees_arguments_as_they_were_passed():
    """Options are converted after it, so that its replacements are converted, too."""
    calls = []
    video = RNG.normal(size=(2, 4, 4, 3))
    with vtnp.intercept(noted(calls)):
        vtnp.tokens.patch_tokens(video, size=[1, 2, 2])
    assert calls[0].arguments["size"] == [1, 2, 2]
    with (
        vtnp.intercept(lambda call, proceed: proceed(call.replace(arguments={"x": Q, "eps": "1"}))),
        pytest.raises(vtnp.FormulaError, match="eps: expected a number, got '1'"),
    ):
        vtnp.encoder.layer_norm(Q, np.ones(4), np.ones(4), eps=1.0)


def test_calls_of_one_formula_in_one_caller_are_numbered():
    calls = []
    with vtnp.intercept(noted(calls)):
        vtnp.encoder.encoder_layer(Q, layers.layer(RNG), eps=1e-6)
    paths = [call.path for call in calls]
    assert len(set(paths)) == len(paths)
    assert [path for path in paths if path.count("/") == 1] == [
        "encoder-layer/multi-head-self-attention",
        "encoder-layer/add-and-norm",
        "encoder-layer/feed-forward",
        "encoder-layer/add-and-norm:2",
    ]
    within = "encoder-layer/multi-head-self-attention/cross-attention/"
    assert [path.removeprefix(within) for path in paths if path.startswith(within)][:4] == [
        "qkv-projection",
        "qkv-projection:2",
        "qkv-projection:3",
        "attention",
    ]
    assert "encoder-layer/add-and-norm:2/layer-norm" in paths


def test_numbers_go_on_within_a_block_and_begin_again_in_the_next():
    calls = []
    for _ in range(2):
        with vtnp.intercept(noted(calls)):
            vtnp.encoder.relu(Q)
            vtnp.encoder.relu(Q)
            with vtnp.intercept(passed_on):
                vtnp.encoder.relu(Q)
    assert [call.path for call in calls] == 2 * ["relu", "relu:2", "relu:3"]


def test_paths_are_told_apart_by_every_caller():
    """Two layers make the same calls: their paths differ in the number of the layer."""
    calls = []
    with vtnp.intercept(noted(calls)):
        attend()
        attend()
    assert [call.path for call in calls] == ATTENTION + [
        path.replace("attention", "attention:2", 1) for path in ATTENTION
    ]


def test_a_handler_of_some_formulas_sees_their_calls_alone():
    """Paths, numbers and the calls around are the same as those that a handler of all sees."""
    every, some = [], []
    for calls, ids in ((every, None), (some, {"softmax", "attention-weights"})):
        with vtnp.intercept(noted(calls), ids):
            attend()
            result = attend()
    wanted = [call for call in every if call.id != "attention"]
    assert [(call.path, call.within) for call in some] == [
        (call.path, call.within) for call in wanted
    ]
    assert [list(call.arguments) for call in some] == [list(call.arguments) for call in wanted]
    assert np.array_equal(result, attend())


# --- What a handler may change --------------------------------------------------------------------


def test_a_handler_may_replace_arguments():
    def without_scale(call, proceed):
        if call.id == "attention-weights":
            call = call.replace(arguments={**call.arguments, "scale": 1.0})
        return proceed(call)

    with vtnp.intercept(without_scale):
        found = attend()
    assert np.array_equal(found, vtnp.encoder.attention(Q, K, V, scale=1.0))
    assert not np.array_equal(found, attend())


def test_a_handler_may_replace_the_function():
    def uniform(Q, K, *, mask=None, scale=None):
        return np.full((3, 5), 0.2)

    def averaging(call, proceed):
        return proceed(call.replace(function=uniform) if call.id == "attention-weights" else call)

    with vtnp.intercept(averaging):
        np.testing.assert_allclose(attend(), np.broadcast_to(V.mean(axis=0), (3, 2)), rtol=1e-14)


def test_a_handler_may_replace_the_result():
    with vtnp.intercept(lambda call, proceed: V[:3] if call.id == "attention" else proceed(call)):
        assert np.array_equal(attend(), V[:3])
        assert vtnp.encoder.softmax(Q).shape == (3, 4)


def test_a_handler_may_proceed_more_than_once():
    """Each time it computes the formulas within again, and goes on counting their calls."""
    calls = []

    def twice(call, proceed):
        return proceed(call) + proceed(call) if call.id == "attention-weights" else proceed(call)

    with vtnp.intercept(noted(calls)), vtnp.intercept(twice):
        doubled = attend()
    np.testing.assert_allclose(doubled, 2.0 * attend(), rtol=1e-14)
    assert [call.path for call in calls if call.id == "softmax"] == [
        "attention/attention-weights/softmax",
        "attention/attention-weights/softmax:2",
    ]


def test_what_a_handler_replaces_is_checked():
    """Even where the formula's own call of that kind was right before."""
    attend()

    def too_many_keys(call, proceed):
        if call.id == "attention-weights":
            call = call.replace(arguments={**call.arguments, "K": np.ones((5, 7))})
        return proceed(call)

    with (
        vtnp.intercept(too_many_keys),
        pytest.raises(vtnp.ShapeError, match="d_k has size 7, expected 4"),
    ):
        attend()

    def too_narrow(call, proceed):
        if call.id == "attention-weights":
            call = call.replace(function=lambda Q, K, **options: np.ones((3, 4)))
        return proceed(call)

    with vtnp.intercept(too_narrow):
        for _ in range(2):
            with pytest.raises(
                vtnp.ShapeError, match=r"result: expected axes .* axis m has size 4, expected 5"
            ):
                attend()


def test_a_call_cannot_be_changed_in_place():
    """A handler passes a changed copy on, so that no other handler is surprised."""
    calls = []
    with vtnp.intercept(noted(calls)):
        attend()
    with pytest.raises(AttributeError):
        calls[0].id = "softmax"
    assert calls[0].replace(path="elsewhere").path == "elsewhere"
    assert calls[0].path == "attention"


# --- Several handlers, and formulas that handlers call --------------------------------------------


def test_the_handler_entered_last_sees_a_call_first():
    order = []

    def named(name):
        def handler(call, proceed):
            order.append(f"{name} before")
            result = proceed(call)
            order.append(f"{name} after")
            return result

        return handler

    with vtnp.intercept(named("outer")), vtnp.intercept(named("inner")):
        vtnp.encoder.relu(Q)
    assert order == ["inner before", "outer before", "outer after", "inner after"]


def test_a_handler_that_does_not_proceed_hides_the_call_from_those_before_it():
    calls = []
    with vtnp.intercept(noted(calls)), vtnp.intercept(lambda call, proceed: Q):
        assert vtnp.encoder.relu(K) is Q
    assert calls == []


def test_what_a_handler_changes_is_what_the_one_before_it_sees():
    calls = []

    def negated(call, proceed):
        return proceed(call.replace(arguments={"x": -call.arguments["x"]}))

    with vtnp.intercept(noted(calls)), vtnp.intercept(negated):
        assert np.array_equal(vtnp.encoder.relu(Q), np.maximum(-Q, 0.0))
    assert np.array_equal(calls[0].arguments["x"], -Q)


def test_formulas_that_a_handler_calls_are_seen_within_the_call():
    calls = []

    def normalised(call, proceed):
        result = proceed(call)
        if "relu" in call.within:
            return result
        return vtnp.encoder.softmax(result)

    with vtnp.intercept(noted(calls)), vtnp.intercept(normalised):
        found = vtnp.encoder.relu(Q)
    assert np.array_equal(found, vtnp.encoder.softmax(vtnp.encoder.relu(Q)))
    assert [(call.path, call.within) for call in calls] == [
        ("relu", ()),
        ("relu/softmax", ("relu",)),
    ]


def test_unchecked_is_a_handler_among_others():
    narrow = K.astype(np.float32)
    calls = []
    with vtnp.intercept(noted(calls)), vtnp.unchecked():
        vtnp.encoder.attention(Q, narrow, V)
    assert [call.checked for call in calls] == [False] * 3
    with (
        vtnp.unchecked(),
        vtnp.intercept(lambda call, proceed: proceed(call.replace(checked=True))),
    ):
        assert vtnp.encoder.attention(Q, narrow, V).shape == (3, 2)
    with (
        vtnp.intercept(lambda call, proceed: proceed(call.replace(checked=True))),
        vtnp.unchecked(),
        pytest.raises(TypeError, match="mix dtypes"),
    ):
        vtnp.encoder.attention(Q, narrow, V)
    with pytest.raises(TypeError, match="mix dtypes"):
        vtnp.encoder.attention(Q, narrow, V)


def test_gradients_go_through_handlers():
    def loss(x):
        return namespace(x).sum(vtnp.encoder.attention(x, K, V))

    expected = grad(loss)(Q)
    with vtnp.intercept(passed_on), vtnp.intercept(passed_on):
        assert np.array_equal(grad(loss)(Q), expected)
    with vtnp.intercept(scaled_by(3.0)):
        np.testing.assert_allclose(grad(loss)(Q), 3.0 * expected, rtol=1e-13)

    def stopped(call, proceed):
        if call.id == "attention":
            call = call.replace(arguments={**call.arguments, "V": 0.0 * V})
        return proceed(call)

    with vtnp.intercept(stopped):
        assert np.all(grad(loss)(Q) == 0.0)


# --- Where a handler is active --------------------------------------------------------------------


def test_an_exception_removes_the_handler():
    calls = []
    with pytest.raises(RuntimeError, match="of the block"), vtnp.intercept(noted(calls)):
        raise RuntimeError("of the block")
    attend()
    assert calls == []

    def failing(call, proceed):
        if call.id == "softmax":
            raise RuntimeError("of the handler")
        return proceed(call)

    with vtnp.intercept(noted(calls)):
        with vtnp.intercept(failing), pytest.raises(RuntimeError, match="of the handler"):
            attend()
        attend()
    assert [call.path for call in calls][-3:] == [
        path.replace("attention", "attention:2", 1) for path in ATTENTION
    ]


def test_errors_of_a_formula_pass_through_handlers():
    seen = []

    def watching(call, proceed):
        try:
            return proceed(call)
        except vtnp.FormulaError as error:
            seen.append((call.id, str(error)))
            raise

    with vtnp.intercept(watching), pytest.raises(vtnp.FormulaError) as raised:
        vtnp.encoder.attention(Q, K, V, scale=np.inf)
    assert str(raised.value).endswith("called by attention (spec/encoder/attention.md)")
    assert [id for id, _ in seen] == ["attention-weights", "attention"]
    with pytest.raises(vtnp.FormulaError) as plain:
        vtnp.encoder.attention(Q, K, V, scale=np.inf)
    assert str(raised.value) == str(plain.value)


def test_each_thread_has_its_own_handlers():
    """What one thread intercepts, another does not see; nor does a thread inherit handlers."""
    expected, barrier = attend(), threading.Barrier(4)

    def scaled(factor):
        calls = []
        barrier.wait()
        with vtnp.intercept(noted(calls)), vtnp.intercept(scaled_by(factor)):
            barrier.wait()
            found = [attend() for _ in range(50)]
            barrier.wait()
        return found, [call.path for call in calls]

    with vtnp.intercept(scaled_by(100.0)), ThreadPoolExecutor(4) as pool:
        results = list(pool.map(scaled, [1.0, 2.0, 3.0, 4.0]))
    for factor, (found, paths) in zip([1.0, 2.0, 3.0, 4.0], results, strict=True):
        assert all(np.array_equal(each, factor * expected) for each in found)
        assert len(paths) == len(set(paths)) == 150


def test_a_thread_that_is_given_the_context_has_its_handlers():
    expected = attend()
    with vtnp.intercept(scaled_by(2.0)), ThreadPoolExecutor(1) as pool:
        assert np.array_equal(pool.submit(attend).result(), expected)
        context = contextvars.copy_context()
        assert np.array_equal(pool.submit(context.run, attend).result(), 2.0 * expected)


def test_each_task_has_its_own_handlers():
    """A task inherits those of whoever starts it, and keeps its own to itself."""
    expected = attend()

    async def scaled(factor, started):
        with vtnp.intercept(scaled_by(factor)):
            started.set()
            found = []
            for _ in range(3):
                await asyncio.sleep(0)
                found.append(attend())
            return found

    async def main():
        events = [asyncio.Event() for _ in range(3)]
        with vtnp.intercept(scaled_by(10.0)):
            tasks = [
                asyncio.create_task(scaled(factor, event))
                for factor, event in zip([1.0, 2.0, 3.0], events, strict=True)
            ]
            await asyncio.gather(*(event.wait() for event in events))
            own = attend()
            inherited = await asyncio.create_task(asyncio.to_thread(attend))
        outside = attend()
        return own, inherited, outside, await asyncio.gather(*tasks)

    own, inherited, outside, results = asyncio.run(main())
    assert np.array_equal(own, 10.0 * expected)
    assert np.array_equal(inherited, 10.0 * expected)
    assert np.array_equal(outside, expected)
    for factor, found in zip([1.0, 2.0, 3.0], results, strict=True):
        for each in found:
            np.testing.assert_allclose(each, 10.0 * factor * expected, rtol=1e-14)


def test_a_generator_leaves_its_handler_active_while_it_waits():
    """As the docstring warns: a generator runs in the context of its caller."""
    expected = attend()

    def results():
        with vtnp.intercept(scaled_by(2.0)):
            yield attend()

    generator = results()
    assert np.array_equal(next(generator), 2.0 * expected)
    assert np.array_equal(attend(), 2.0 * expected)
    generator.close()
    assert np.array_equal(attend(), expected)


def test_generators_may_leave_their_blocks_in_any_order():
    """Each takes its own handler away, so that none stays behind, and counting begins anew."""
    expected = attend()

    def results(factor):
        with vtnp.intercept(scaled_by(factor)):
            while True:
                yield attend()

    twice, thrice = results(2.0), results(3.0)
    next(twice)
    assert np.array_equal(next(thrice), 3.0 * (2.0 * expected))
    twice.close()
    assert np.array_equal(attend(), 3.0 * expected)
    thrice.close()
    assert np.array_equal(attend(), expected)
    calls = []
    with vtnp.intercept(noted(calls)):
        attend()
    assert [call.path for call in calls] == ATTENTION


def test_a_generator_switches_checks_off_for_whoever_runs_it_until_it_ends():
    narrow = K.astype(np.float32)

    def rows():
        with vtnp.unchecked():
            yield 1

    generator = rows()
    next(generator)
    assert vtnp.encoder.attention(Q, narrow, V).shape == (3, 2)
    assert list(generator) == []
    with pytest.raises(TypeError, match="mix dtypes"):
        vtnp.encoder.attention(Q, narrow, V)


def test_leaving_a_block_in_another_thread_is_an_error():
    """There nothing can be taken away; where the block was entered, the handler stays."""
    expected = attend()

    def doubled():
        with vtnp.intercept(scaled_by(2.0)):
            yield attend()

    def in_a_context_of_its_own():
        generator = doubled()
        next(generator)
        with ThreadPoolExecutor(1) as pool:
            for run in (lambda f: f(), contextvars.copy_context().run):
                with pytest.raises(RuntimeError, match="left in another thread or task than the"):
                    pool.submit(run, generator.close).result()
                generator = doubled()
                next(generator)
            pool.submit(attend).result()
        assert np.array_equal(attend(), 8.0 * expected)
        generator.close()
        assert np.array_equal(attend(), 4.0 * expected)

    contextvars.copy_context().run(in_a_context_of_its_own)
    assert np.array_equal(attend(), expected)


def test_each_task_switches_checks_off_for_itself():
    narrow = K.astype(np.float32)

    async def unchecked(started):
        with vtnp.unchecked():
            started.set()
            await asyncio.sleep(0)
            return vtnp.encoder.attention(Q, narrow, V).shape

    async def main():
        started = asyncio.Event()
        task = asyncio.create_task(unchecked(started))
        await started.wait()
        with pytest.raises(TypeError, match="mix dtypes"):
            vtnp.encoder.attention(Q, narrow, V)
        return await task

    assert asyncio.run(main()) == (3, 2)


def test_a_formula_registered_by_anyone_is_seen():
    @spec("made-up")
    def made_up(x: Float[Array, " n"]) -> Float[Array, " n"]:
        return vtnp.encoder.relu(x)

    calls = []
    try:
        with vtnp.intercept(noted(calls)):
            made_up(np.ones(2))
    finally:
        del registry["made-up"]
    assert [call.path for call in calls] == ["made-up", "made-up/relu"]
    assert calls[0].function is made_up.__wrapped__
