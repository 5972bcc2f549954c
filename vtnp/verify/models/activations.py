"""What our models compute on the way: each quantity by name, in the order of computation.

A handler sees every call of a formula. Which layer it belongs to is known by the params that it is
given, each of which knows its path: the layer norm whose gain is at "layers.3.time.norm_1.gamma"
computes "layers.3.time.norm_1". Where a call has no params of its own, the nearest call around it
that has made a projection, or is a feed-forward network, tells. So the formulas' texts, and those
of the models, know nothing of it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._array.trees import tree_leaves, tree_map
from vtnp._registry.calls import Call, Handler, Proceed, intercept

Run = Callable[[Any, NDArray[Any]], Any]
Note = Callable[[str, NDArray[Any]], None]

_OF_HEADS = ("q", "k", "v", "weights", "read")  # whose tokens are the axis before the last


class Enough(Exception):  # noqa: N818  (nothing is wrong)
    """What was asked for has been computed."""


class _Param(np.ndarray[Any, Any]):
    """An array that knows where it is in a tree of params; what is computed of it does not."""

    path = ""


def _with_paths(params: Any) -> Any:
    """Return params whose arrays, also those that are at two places, know their paths."""
    paths = iter([path for path, _ in tree_leaves(params)])

    def with_path(x: NDArray[Any]) -> _Param:
        param = np.asarray(x).view(_Param)
        param.path = next(paths)
        return param

    return tree_map(with_path, params)


def _path(x: Any) -> str:
    """Return where a param is; "" for any other array."""
    return x.path if isinstance(x, _Param) else ""


def record(
    run: Run,
    params: Any,
    x: NDArray[Any],
    note: Note,
    *,
    theirs: Mapping[str, NDArray[Any]] | None = None,
    handler: Handler | None = None,
) -> None:
    """Note the quantities of one run by name, in the order of computation.

    note: may raise Enough, which ends the run. theirs: what takes a quantity's place, as soon as it
    is noted, in all that follows, so that each is made of another implementation's. handler: of
    formula calls, which changes our model.
    Notes: of a class token that has calls of its own, names end in ".cls". What is computed once
    more in a block has a number at its end.
    """
    recorder = _Recorder(note, theirs or {})
    with ExitStack() as stack:
        if handler:
            stack.enter_context(intercept(handler))
        stack.enter_context(intercept(recorder, recorder.watched))
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(suppress(Enough))
        run(_with_paths(params), x)


class _Recorder:
    """A handler that notes quantities. blocks, networks: by the path of the call they are in."""

    def __init__(self, note: Note, theirs: Mapping[str, NDArray[Any]]) -> None:
        self.note, self.theirs = note, theirs
        self.times: Counter[str] = Counter()
        self.blocks: dict[str, str] = {}
        self.networks: dict[str, str] = {}
        self.watched: Mapping[str, Handler] = {
            "layer-norm": self.layer_norm,
            "qkv-projection": self.qkv_projection,
            "output-projection": self.output_projection,
            "attention-weights": self.attention_weights,
            "feed-forward": self.feed_forward,
            "gelu": self.activation,
            "relu": self.activation,
            "linear-embedding": self.linear_embedding,
            "tubelet-embedding": self.convolution,
            "spatio-temporal-embedding": self.convolution,
            "learned-positions": self.positions,
        }

    def __call__(self, call: Call, proceed: Proceed) -> Any:
        if call.id in call.within:  # part of what a handler has put in the formula's place
            return proceed(call)
        return self.watched[call.id](call, proceed)

    def seen(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        """Record a quantity; return what goes on in its place."""
        if not name:
            return x
        if _lone(name, x) or (x.ndim == 2 and self.times[name]):
            name += ".cls"
        self.times[name] += 1
        if self.times[name] > 1:
            name += f".{self.times[name]}"
        self.note(name, np.asarray(x))
        return self.theirs[name].astype(x.dtype) if name in self.theirs else x

    # --- Watched ----------------------------------------------------------------------------------

    def layer_norm(self, call: Call, proceed: Proceed) -> Any:
        name = _within(call, "gamma", ".gamma")
        call = self._with(call, "x", name and f"{name}.input")
        return self.seen(name, proceed(call))

    def qkv_projection(self, call: Call, proceed: Proceed) -> Any:
        front, _, letter = _path(call.arguments["W"]).rpartition(".W_")
        block = self.blocks[_around(call)] = front.removesuffix(".attention")
        return self.seen(front and f"{block}.{letter}", proceed(call))

    def output_projection(self, call: Call, proceed: Proceed) -> Any:
        block = _within(call, "W_c", ".W_c").removesuffix(".attention")
        call = self._with(call, "y", block and f"{block}.read")
        return self.seen(block and f"{block}.merged", proceed(call))

    def attention_weights(self, call: Call, proceed: Proceed) -> Any:
        block = _nearest(self.blocks, call)
        return self.seen(block and f"{block}.weights", proceed(call))

    def feed_forward(self, call: Call, proceed: Proceed) -> Any:
        name = self.networks[call.path] = _within(call, "W_1", ".W_1")
        return self.seen(name, proceed(call))

    def activation(self, call: Call, proceed: Proceed) -> Any:
        block = _nearest(self.networks, call).removesuffix(".feed_forward")
        call = self._with(call, "x", block and f"{block}.widened")
        return self.seen(block and f"{block}.hidden", proceed(call))

    def linear_embedding(self, call: Call, proceed: Proceed) -> Any:
        module, _, letter = _path(call.arguments["E"]).rpartition(".")
        if letter == "W_1":  # a layer whose network widens makes it of these
            self.networks[_around(call)] = module
            return proceed(call)
        if letter == "W_2":
            self.networks.pop(_around(call), None)
        name = module if letter in ("E", "W", "W_2") else ""
        return self.seen("logits" if name == "head" else name, proceed(call))

    def convolution(self, call: Call, proceed: Proceed) -> Any:
        name = _within(call, "kernel", ".kernel") or _within(call, "E", ".E")
        return self.seen(name, proceed(call))

    def positions(self, call: Call, proceed: Proceed) -> Any:
        return self.seen("tokens", proceed(call))

    def _with(self, call: Call, argument: str, name: str) -> Call:
        """Record an argument, and replace it."""
        x = self.seen(name, call.arguments[argument])
        return call.replace(arguments={**call.arguments, argument: x})


def _within(call: Call, argument: str, ending: str) -> str:
    """Return where a param is, less the ending; "" for what is no such param."""
    path = _path(call.arguments.get(argument))
    return path.removesuffix(ending) if path.endswith(ending) else ""


def _around(call: Call) -> str:
    """Return the path of the call that a call is made in."""
    return call.path.rpartition("/")[0]


def _nearest(names: Mapping[str, str], call: Call) -> str:
    """Return the name of the innermost call around this one that has one."""
    path = call.path
    while path:
        path = path.rpartition("/")[0]
        if path in names:
            return names[path]
    return ""


def _lone(name: str, x: NDArray[Any]) -> bool:
    """Tell whether these are a single token's."""
    if name.rpartition(".")[2] in _OF_HEADS:
        return bool(x.shape[-2] == 1)
    return x.ndim > 2 and math.prod(x.shape[1:-1]) == 1
