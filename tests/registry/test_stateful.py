"""Handlers entered, left and nested in any order, in several threads at once, against a model."""

import contextlib
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import vtnp
from vtnp._registry.calls import handlers

Q, K = np.eye(2, 3), np.ones((4, 3))
# The calls that each of these makes, by their path within itself.
CALLS = {
    "softmax": ((lambda: vtnp.encoder.softmax(Q)), ["softmax"]),
    "attention-weights": (
        lambda: vtnp.encoder.attention_weights(Q, K),
        ["attention-weights", "attention-weights/softmax"],
    ),
    "attention": (
        lambda: vtnp.encoder.attention(Q, K, K),
        ["attention", "attention/attention-weights", "attention/attention-weights/softmax"],
    ),
}
WRONG = {  # calls of arrays that do not fit
    "softmax": lambda: vtnp.encoder.softmax(np.float64(1.0)),
    "attention-weights": lambda: vtnp.encoder.attention_weights(Q, np.ones((4, 2))),
}
FILTERS = st.sampled_from([None, ("softmax",), ("attention", "softmax"), ("relu",), ()])
UNCHECKED = "unchecked"
THREADS = 2
WHICH = st.integers(0, THREADS - 1)


class Leaving(Exception):  # noqa: N818 - it is not an error
    """Raised in a block to leave it."""


class Worker:
    """A thread, the blocks that it is in, and what their handlers have seen.

    blocks: for each a number and the formulas that it receives; UNCHECKED for `unchecked()`.
    called: how often each formula has been called since the first block was entered.
    """

    def __init__(self):
        self.pool = ThreadPoolExecutor(1)
        self.blocks, self.entered, self.called, self.seen = [], [], {}, []

    def run(self, function):
        return self.pool.submit(function).result(timeout=60)

    def enter(self, number, ids):
        def note(call, proceed):
            self.seen.append((number, call.id, call.path, call.within, call.checked))
            return proceed(call)

        block = vtnp.unchecked() if ids == UNCHECKED else vtnp.intercept(note, ids)
        self.run(block.__enter__)
        if not self.blocks:
            self.called = {}
        self.blocks.append((number, ids))
        self.entered.append(block)

    def leave(self, which=-1, error=None):
        """Leave a block, the innermost or, as generators may, another one."""
        self.blocks.pop(which)
        block = self.entered.pop(which)
        if error is None:
            assert not self.run(lambda: block.__exit__(None, None, None))
        else:  # which passes through
            with contextlib.suppress(type(error)):
                assert not self.run(lambda: block.__exit__(type(error), error, None))

    def expected(self, id, paths):
        """What the handlers see of a call of a formula, one after the other."""
        number = self.called[id] = self.called.get(id, 0) + 1
        first = id if number == 1 else f"{id}:{number}"
        for path in paths:
            name, within = path.split("/")[-1], tuple(path.split("/")[:-1])
            whole, checked = "/".join([first, *path.split("/")[1:]]), True
            for block, ids in reversed(self.blocks):  # the last one entered is the first to see it
                if ids == UNCHECKED:
                    checked = False
                elif ids is None or name in ids:
                    yield block, name, whole, within, checked

    @property
    def is_unchecked(self):
        return any(ids == UNCHECKED for _, ids in self.blocks)


class Handlers(RuleBasedStateMachine):
    """Two threads; what one of them enters changes nothing for the others."""

    @initialize()
    def start(self):
        self.workers = [Worker() for _ in range(THREADS)]
        self.numbers = count()

    def teardown(self):
        for worker in getattr(self, "workers", ()):
            while worker.blocks:
                worker.leave()
            assert worker.run(handlers.get) == ()
            worker.pool.shutdown()

    @rule(i=WHICH, ids=FILTERS)
    def enter(self, i, ids):
        self.workers[i].enter(next(self.numbers), ids)

    @rule(i=WHICH)
    def enter_unchecked(self, i):
        self.workers[i].enter(next(self.numbers), UNCHECKED)

    @rule(i=WHICH, which=st.sampled_from([-1, -1, 0, 1]), by_error=st.booleans())
    def leave(self, i, which, by_error):
        worker = self.workers[i]
        if worker.blocks and which < len(worker.blocks):
            worker.leave(which, Leaving() if by_error else None)

    @rule(i=WHICH, j=WHICH)
    def leave_in_another_thread(self, i, j):
        """It is refused, and changes nothing in either."""
        worker, other = self.workers[i], self.workers[j]
        if i == j or not worker.blocks:
            return
        before = [each.run(handlers.get) for each in (worker, other)]
        with pytest.raises(RuntimeError, match="left in another thread or task"):
            other.run(lambda: worker.entered[-1].__exit__(None, None, None))
        assert [each.run(handlers.get) for each in (worker, other)] == before
        worker.blocks.pop()  # it is spent, and its handler stays in that thread
        worker.entered.pop()
        while worker.blocks:
            worker.leave()
        assert len(worker.run(handlers.get)) == 1
        worker.pool.shutdown()
        self.workers[i] = Worker()

    @rule(i=WHICH, id=st.sampled_from(sorted(CALLS)))
    def call(self, i, id):
        worker, (function, paths) = self.workers[i], CALLS[id]
        worker.seen.clear()
        result = worker.run(function)
        assert np.array_equal(result, function())
        assert worker.seen == (list(worker.expected(id, paths)) if worker.blocks else [])

    @rule(i=WHICH, id=st.sampled_from(sorted(WRONG)))
    def call_with_what_does_not_fit(self, i, id):
        """It is refused in vtnp's words; unchecked, NumPy makes of it what it can."""
        worker = self.workers[i]
        if worker.blocks:
            list(worker.expected(id, []))
        if not worker.is_unchecked:
            with pytest.raises(vtnp.FormulaError, match=f"^{id} "):
                worker.run(WRONG[id])
        elif id == "softmax":  # of a single number, which NumPy takes
            assert worker.run(WRONG[id]) == 1.0
        else:
            with pytest.raises(ValueError, match="matmul") as raised:
                worker.run(WRONG[id])
            assert not isinstance(raised.value, vtnp.FormulaError)

    @rule(i=WHICH, id=st.sampled_from(sorted(CALLS)))
    def call_in_a_new_thread(self, i, id):
        """It begins without handlers; with a copy of the context it has those of its parent."""
        worker, (function, paths) = self.workers[i], CALLS[id]
        worker.seen.clear()

        def in_thread(call):
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()

        worker.run(lambda: in_thread(function))
        assert worker.seen == []
        worker.run(lambda: in_thread(partial(contextvars.copy_context().run, function)))
        assert worker.seen == (list(worker.expected(id, paths)) if worker.blocks else [])

    @invariant()
    def nothing_is_left_here(self):
        assert handlers.get() == ()

    @invariant()
    def each_thread_has_its_own(self):
        for worker in getattr(self, "workers", ()):
            active = worker.run(handlers.get)
            ids = [None if each is None or each == UNCHECKED else frozenset(each)
                   for _, each in worker.blocks]  # fmt: skip
            assert [each.ids for each in active] == ids


TestHandlers = Handlers.TestCase
TestHandlers.settings = settings(stateful_step_count=40)
