"""What is run on a device, in order of risk: formulas, whole models, times."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from autograd import value_and_grad

import vtnp
from tests.device.libraries import Device, Transfer, one_line
from tests.support.whole_models import SMALL, Small, drawn, videos
from vtnp._array.trees import tree_leaves, tree_map
from vtnp._array.xp import is_boxed, namespace
from vtnp._registry.spec import registry
from vtnp.claims import Claim, check_claim, claims
from vtnp.claims.cases import Case, make
from vtnp.claims.errors import NotApplicableError
from vtnp.models import deformable
from vtnp.verify.errors import CandidateError
from vtnp.verify.functions.axis_layout import AxisLayout
from vtnp.verify.functions.candidate import Candidate
from vtnp.verify.functions.conditioning import reference
from vtnp.verify.functions.gradient_check import check_gradients
from vtnp.verify.functions.trials import Trial, trial
from vtnp.verify.judge import deviations, rounded

DTYPES = ("float64", "float32")
# Chapters that a device may well get wrong: pseudo-inverses in its precision; samples by index, and
# their sums; the choice of prototypes.
RISKY = ("nystromformer", "deformable", "tokens", "motionformer")
_TRIALS, _SEEDS, _BATCH = 2, 8, (2,)
_REPEATS = 5

# Copies from the host that a formula needs, by the function that asks for them: numbers that Python
# computes. No formula waits for the device or copies from it.
UPLOADS = {
    "positions.sinusoidal_positions": "the table, exact to the last digit",
    "vivit.uniform_frame_sampling": "the numbers of frames",
    "motionformer._first_index": "first prototypes that NumPy's generator draws",
    "models.motionformer._spatial_positions": "weights of a bicubic filter",
}


class Stop(Exception):  # noqa: N818
    """The time is over."""


@dataclass
class Found:
    """What a task found. failed: what did not hold, by name, with the reason."""

    failed: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


Run = Callable[[Device, Callable[[], None]], Found]


@dataclass(frozen=True)
class Task:
    """One task. run: takes a device, and a function that raises Stop when the time is over."""

    name: str
    run: Run


def tasks() -> Iterator[Task]:
    """Yield all tasks in order of risk: formulas and models of the risky chapters, the others."""
    models = {**SMALL, "deformable-tiny": Small(deformable, deformable.CONFIGS["deformable-tiny"])}
    for chapters in (RISKY, tuple({each.module for each in registry.values()} - {*RISKY})):
        entries = [each for each in registry.values() if each.module in chapters]
        for entry in sorted(entries, key=lambda each: chapters.index(each.module)):
            yield from _of_formula(entry.id)
        for name, small in models.items():
            if name.startswith(chapters):
                yield from _of_model(name, small)
    yield from (Task(f"time {name}", _time_of(name)) for name in _LARGE)


def _of_formula(id: str) -> Iterator[Task]:
    for dtype in DTYPES:
        yield Task(f"formula {id} {dtype}", partial(formula, id=id, dtype=dtype))


def _of_model(name: str, small: Small) -> Iterator[Task]:
    for dtype in DTYPES:
        yield Task(f"model {name} {dtype}", partial(training_step, small=small, dtype=dtype))


# --- Formulas -------------------------------------------------------------------------------------


def formula(device: Device, go_on: Callable[[], None], id: str, dtype: str) -> Found:
    """Compare value and gradient with NumPy's, count transfers, and check the laws."""
    found, entry = Found(), registry[id]
    candidate = Candidate(entry.function, entry, device, AxisLayout(entry.signature, {}))
    judged = 0
    for seed in range(_SEEDS):
        go_on()
        case = make(id, seed, _BATCH)
        one = trial(entry, case.args, dtype, "distinct", "typical", _BATCH, seed)
        if not reference(id, one).is_well_conditioned:
            continue
        compare(found, device, candidate, one, count=judged == 0)
        judged += 1
        if judged == _TRIALS:
            break
    found.numbers["judged"] = judged
    check_laws(found, device, go_on, id, dtype)
    return found


def compare(found: Found, device: Device, candidate: Candidate, one: Trial, *, count: bool) -> None:
    """Compare value and gradient on one input. count: transfers, too."""
    exact, units, _ = reference(candidate.entry.id, one)
    try:
        if count:
            count_transfers(found, device, candidate, one)
        got = candidate(one.arguments, one.dtype)
        if [x.shape for x in got] != [y.shape for y in exact]:
            found.failed["value"] = f"shapes {[x.shape for x in got]}"
            return
        for each in deviations(got, exact, units, one.dtype):
            note(found, "value", each.ratio, each.note if not each.holds else "")
        for line in check_gradients(candidate, one).lines:
            ratio = line.error / line.bound if line.error and line.bound else 0.0
            note(found, "gradient", ratio, "" if line.holds else f"{line.what}: {line.note}")
    except CandidateError as error:
        found.failed["call"] = one_line(error.__cause__ or error)


def note(found: Found, what: str, ratio: float, failure: str) -> None:
    """Keep the largest error, as a part of what it may be, and the first failure."""
    found.numbers[what] = max(found.numbers.get(what, 0.0), round(float(ratio), 4))
    if failure:
        found.failed.setdefault(what, failure)


def count_transfers(found: Found, device: Device, candidate: Candidate, one: Trial) -> None:
    """Count transfers within a call on arrays of the device, and within its gradient."""
    arguments = candidate.to_library(one.arguments, one.dtype)
    with device.watched() as seen:
        results = candidate.call(arguments)
    notable(found, "transfers", seen)
    like = {name: x for name, x in arguments.items() if name == "like"}
    rest = {name: x for name, x in arguments.items() if name != "like"}
    variables = [x for _, x in tree_leaves(rest) if "float" in device.dtype_of(x)]
    real = [i for i, y in enumerate(results) if hasattr(y, "dtype") and _is_real(device, y)]
    if not (variables and real):
        return

    def of_variables(*values: Any) -> list[Any]:
        each = iter(values)
        placed = tree_map(lambda x: next(each) if "float" in device.dtype_of(x) else x, rest)
        return [candidate.call({**placed, **like})[i] for i in real]

    weights = [namespace(results[i]).ones_like(results[i]) for i in real]
    with device.watched() as seen:
        device.gradients(of_variables, variables, weights)
    notable(found, "transfers in the gradient", seen)


def _is_real(device: Device, y: Any) -> bool:
    return "float" in device.dtype_of(y)


def notable(found: Found, what: str, seen: list[Transfer] | None) -> None:
    """Keep transfers; those that are not among the known uploads have failed."""
    if seen is None:
        return
    found.numbers[what] = [" ".join(each) for each in dict.fromkeys(seen)]
    wrong = [each for each in seen if each[0] != "upload" or each[2] not in UPLOADS]
    if wrong:
        found.failed[what] = "; ".join(" ".join(each) for each in dict.fromkeys(wrong))


def check_laws(
    found: Found, device: Device, go_on: Callable[[], None], id: str, dtype: str
) -> None:
    """Check all laws and special cases of a formula on the device."""
    held, silent = 0, []
    for claim in claims.values():
        if claim.id == id:
            go_on()
            why = failure_of(claim, device, dtype)
            if why:
                found.failed[f"{claim.kind} {claim.name}"] = why
            held += why == ""
            silent += [claim.name] * (why is None)
    found.numbers |= {"laws": held, "laws that say nothing here": silent}


def failure_of(claim: Claim, device: Device, dtype: str, case: Case | None = None) -> str | None:
    """Return why a claim does not hold on the device; "" where it does.

    None where it says nothing of the case, or of its precision: NumPy does not meet it either.
    """
    case = case_of(claim, dtype) if case is None else case
    own = case.function

    def on_device(**arguments: Any) -> Any:
        if is_traced(arguments):  # gradients are NumPy's
            return own(**arguments)
        placed = {name: tree_map(lambda x: _placed(device, x), x) for name, x in arguments.items()}
        return tree_map(lambda y: _at_home(device, y), own(**placed))

    try:
        check_claim(claim, replace(case, function=on_device, dtype=dtype), moved=own)
    except NotApplicableError:
        return None
    except AssertionError as error:
        return one_line(error) if holds_on_numpy(claim, case, dtype) else None
    return ""


def is_traced(tree: Any) -> bool:
    """Tell whether autograd differentiates with respect to a part of a tree."""
    children = tree.values() if isinstance(tree, dict) else tree
    return is_boxed(tree) or (
        isinstance(tree, dict | list | tuple) and any(map(is_traced, children))
    )


def case_of(claim: Claim, dtype: str) -> Case:
    """Return a typical case, rounded to a precision."""
    case = make(claim.id, 0, _BATCH)
    return case.with_args(**rounded(case.args, dtype))


def holds_on_numpy(claim: Claim, case: Case, dtype: str) -> bool:
    try:
        check_claim(claim, replace(case, dtype=dtype))
    except AssertionError:
        return False
    return True


def _placed(device: Device, x: Any) -> Any:
    x = np.asarray(x)
    return device.to_library(x, str(x.dtype))


def _at_home(device: Device, y: Any) -> Any:
    return device.to_numpy(y) if hasattr(y, "dtype") else y


# --- Whole models ---------------------------------------------------------------------------------


def loss(params: Any, model: Any, config: Any, video: Any, right: Any) -> Any:
    """Return the mean cross entropy. right: 1 at the class of each video, 0 elsewhere."""
    logits = model.apply(params, video, config)
    xp = namespace(logits, right)
    likely = xp.log(xp.sum(xp.exp(logits), axis=-1))
    return xp.mean(likely - xp.sum(logits * right, axis=-1))


def stepped(params: Any, *rest: Any, rate: float = 0.1) -> tuple[Any, Any]:
    """Return the loss, and the params after one step of gradient descent."""
    value, gradient = value_and_grad(loss)(params, *rest)
    slopes = iter([g for _, g in tree_leaves(gradient)])

    def moved(x: Any) -> Any:
        xp = namespace(x)
        return xp.subtract(x, xp.multiply(next(slopes), rate))

    return value, tree_map(moved, params)


def training_step(device: Device, go_on: Callable[[], None], small: Small, dtype: str) -> Found:
    """Compare one step of training with the CPU's, and count transfers within it."""
    found, (model, config) = Found(), small
    params = tree_map(lambda x: x.astype(dtype), drawn(model, config))
    video = videos(config, (2,)).astype(dtype)
    right = np.eye(config.classes, dtype=dtype)[[0, config.classes - 1]]
    go_on()

    def wide(tree: Any) -> Any:
        return tree_map(lambda x: x.astype(np.float64), tree)

    exact = numbers(stepped(wide(params), model, config, wide(video), wide(right)))
    own = numbers(stepped(params, model, config, video, right))
    go_on()
    there = tree_map(lambda x: device.to_library(x, dtype), params)
    arrays = device.to_library(video, dtype), device.to_library(right, dtype)
    with device.watched() as seen, device.measured() as peak:
        value, after = stepped(there, model, config, *arrays)
        device.synchronize()
    known = None if seen is None else [each for each in seen if not each[1].endswith("nchronize")]
    notable(found, "transfers", known)
    found.numbers["peak bytes"] = peak.bytes
    got = numbers((device.to_numpy(value), tree_map(device.to_numpy, after)))
    eps = float(np.finfo(dtype).eps)
    for path, y in exact.items():
        size = float(np.max(np.abs(y), initial=0.0))
        # The CPU errs in the same precision; sums in another order err otherwise, but not by more
        # than a few times.
        allowed = 16 * float(np.max(np.abs(own[path] - y), initial=0.0)) + 64 * eps * max(size, 0.1)
        off = float(np.max(np.abs(got[path] - y), initial=0.0))
        failure = "" if off <= allowed else f"{path}: {off:.3g}, allowed {allowed:.3g}"
        note(found, "step", off / allowed, failure)
    return found


def numbers(step: tuple[Any, Any]) -> dict[str, Any]:
    value, params = step
    return {"loss": np.asarray(value), **dict(tree_leaves(params))}


# --- Times ----------------------------------------------------------------------------------------

_HEADS = dict.fromkeys("QKV", (8, 8, 1024, 64))
_LARGE: Mapping[str, tuple[Callable[..., Any], Mapping[str, tuple[int, ...]]]] = {
    "attention": (vtnp.encoder.attention, _HEADS),
    "layer-norm": (
        partial(vtnp.encoder.layer_norm, eps=1e-6),
        {"x": (8, 4096, 768), "gamma": (768,), "beta": (768,)},
    ),
    "gelu": (vtnp.encoder.gelu, {"x": (8, 4096, 3072)}),
    "nystrom-attention exact": (
        partial(vtnp.nystromformer.nystrom_attention, landmarks=64, pinv="exact"),
        _HEADS,
    ),
    "nystrom-attention iterative": (
        partial(vtnp.nystromformer.nystrom_attention, landmarks=64, pinv="iterative"),
        _HEADS,
    ),
    "bilinear-sample": (
        vtnp.tokens.bilinear_sample,
        {"v": (8, 64, 64, 64), "locations": (8, 20_000, 2)},
    ),
}


def _time_of(name: str) -> Run:
    """Return what measures one large formula and its gradient, in float32."""

    def run(device: Device, go_on: Callable[[], None]) -> Found:
        found, (function, shapes) = Found(), _LARGE[name]
        rng = np.random.default_rng(0)
        # Locations among 64 x 64 cells, and some outside.
        spread = {"locations": 40.0}
        most = 1 << 30 if device.is_accelerator else 64
        drawn = {
            name: rng.standard_normal([min(n, most) for n in shape])
            for name, shape in shapes.items()
        }
        arrays = [device.to_library(x * spread.get(n, 1.0), "float32") for n, x in drawn.items()]

        def forward() -> Any:
            return function(*arrays)

        def backward() -> Any:
            weights = [namespace(forward()).ones_like(forward())]
            return device.gradients(lambda *xs: [function(*xs)], arrays, weights)

        for what, call in (("value", forward), ("gradient", backward)):
            go_on()
            with device.measured() as peak:
                call()  # compiles its kernels
                device.synchronize()
            times = []
            for _ in range(_REPEATS):
                go_on()
                start = time.perf_counter()
                call()
                device.synchronize()
                times.append(time.perf_counter() - start)
            found.numbers[f"{what} ms"] = round(1000 * min(times), 3)
            found.numbers[f"{what} peak bytes"] = peak.bytes
        return found

    return run
