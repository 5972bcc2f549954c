"""A check changes formulas for itself alone: not for other threads, nor for the candidate."""

import threading

import numpy as np

from vtnp._registry.spec import registry
from vtnp.claims.cases import make
from vtnp.mistakes import mistakes
from vtnp.verify import check

THREADS = 8
IDS = (
    "softmax", "attention", "multi-head-self-attention", "pre-norm-layer", "layer-norm",
    "feed-forward", "trajectory-tokens", "nystrom-attention",
)  # fmt: skip
MISTAKE = ("pre-norm-layer", "eps-forgotten")


def diagnosed():
    """Check a candidate whose mistake is sought in all formulas that it is made of."""
    id, _ = MISTAKE
    return check(
        mistakes[MISTAKE], id, library="numpy", dtypes=("float64",), gradients=False, examples=0
    )


class Caller(threading.Thread):
    """Calls a formula over and over, and counts what comes out differently."""

    def __init__(self, id, stop):
        super().__init__(daemon=True)
        self.case, self.stop = make(id, 1), stop
        self.expected = self.result()
        self.calls = self.wrong = 0

    def result(self):
        return np.asarray(self.case())

    def run(self):
        while not self.stop.is_set():
            self.calls += 1
            self.wrong += not np.array_equal(self.result(), self.expected)


def test_formulas_that_other_threads_call_stay_right_during_a_diagnosis():
    alone = diagnosed()
    stop = threading.Event()
    callers = [Caller(id, stop) for id in IDS]
    assert len(callers) == THREADS
    for caller in callers:
        caller.start()
    try:
        beside_others = diagnosed()
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert all(caller.calls for caller in callers)
    assert {caller.case.id: caller.wrong for caller in callers} == dict.fromkeys(IDS, 0)
    assert beside_others == alone
    assert MISTAKE in beside_others.findings[0].mistakes


def test_two_checks_at_once_find_what_each_finds_alone():
    """Both put mistakes in the place of the same formulas."""
    alone = diagnosed()
    found = [None, None]

    def run(k):
        found[k] = diagnosed()

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone, alone]


def test_a_candidate_that_calls_formulas_itself_never_meets_a_mistake():
    """It is called to see whether it rounds, which is held against a mistake in softmax."""
    seen = []

    def sigmoid_in_single(Q, K):
        seen.append(registry["softmax"].function(np.zeros(4)))
        scores = Q @ np.swapaxes(K, -1, -2) / np.sqrt(Q.shape[-1])
        return (1.0 / (1.0 + np.exp(-scores.astype(np.float32)))).astype(Q.dtype)

    report = check(sigmoid_in_single, "attention-weights", dtypes=("float64",), gradients=False)
    assert report.findings[0].title == "sigmoid (softmax), computed in float32"
    assert np.all(np.asarray(seen) == 0.25)
