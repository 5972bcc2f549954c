"""The quantities that our models compute, each by name, in the order of computation.

A handler sees the calls of formulas. A call belongs to the layer of its params, each of which knows
its path: the layer norm whose gain is at "layers.3.time.norm_1.gamma" computes
"layers.3.time.norm_1". A call without params belongs to the innermost call around it that has made
a projection or is a feed-forward network. Formulas and models are written without regard to it.
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

_OF_HEADS = ("q", "k", "v", "weights", "context")  # their tokens are the axis before the last


class StopRecording(Exception):  # noqa: N818  (nothing is wrong)
    """Ends a run whose remaining quantities are not needed."""


def _with_paths(params: Any) -> tuple[Any, dict[int, str]]:
    """Return params of arrays of their own, also where two layers share one, and the path of each.

    Paths are by identity: what a formula computes from a param is another array.
    """
    paths = iter([path for path, _ in tree_leaves(params)])
    found: dict[int, str] = {}

    def with_path(x: NDArray[Any]) -> NDArray[Any]:
        param = np.asarray(x).view()
        found[id(param)] = next(paths)
        return param

    return tree_map(with_path, params), found


def record(
    run: Run,
    params: Any,
    x: NDArray[Any],
    note: Note,
    *,
    replacements: Mapping[str, NDArray[Any]] | None = None,
    handler: Handler | None = None,
) -> None:
    """Note the quantities of one run by name, in the order of computation.

    note: may raise StopRecording. replacements: quantities of another implementation, each of which
    replaces ours once that is noted, so that what follows is computed from it. handler: of formula
    calls, which changes our model.
    Notes: the names of a class token's quantities, where it has calls of its own, end in ".cls". A
    quantity that a block computes again has a number at its end.
    """
    params, paths = _with_paths(params)
    recorder = _Recorder(note, replacements or {}, paths)
    with ExitStack() as stack:
        if handler:
            stack.enter_context(intercept(handler))
        stack.enter_context(intercept(recorder, recorder.watched))
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(suppress(StopRecording))
        run(params, x)


class _Recorder:
    """A handler that notes quantities. blocks, networks: by the path of the call around them."""

    def __init__(
        self, note: Note, replacements: Mapping[str, NDArray[Any]], paths: Mapping[int, str]
    ) -> None:
        self.note, self.replacements, self.paths = note, replacements, paths
        self.counts: Counter[str] = Counter()
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
        if call.id in call.within:  # made by a function that stands in for the formula
            return proceed(call)
        return self.watched[call.id](call, proceed)

    def noted(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        """Note a quantity; return it, or its replacement."""
        if not name:
            return x
        if _is_single_token(name, x) or (x.ndim == 2 and self.counts[name]):
            name += ".cls"
        self.counts[name] += 1
        if self.counts[name] > 1:
            name += f".{self.counts[name]}"
        self.note(name, np.asarray(x))
        return self.replacements[name].astype(x.dtype) if name in self.replacements else x

    # --- Calls that are noted ---------------------------------------------------------------------

    def layer_norm(self, call: Call, proceed: Proceed) -> Any:
        name = self.param_path(call, "gamma", ".gamma")
        call = self._with(call, "x", name and f"{name}.input")
        return self.noted(name, proceed(call))

    def qkv_projection(self, call: Call, proceed: Proceed) -> Any:
        front, _, letter = self.path(call.arguments["W"]).rpartition(".W_")
        block = self.blocks[_around(call)] = front.removesuffix(".attention")
        return self.noted(front and f"{block}.{letter}", proceed(call))

    def output_projection(self, call: Call, proceed: Proceed) -> Any:
        block = self.param_path(call, "W_c", ".W_c").removesuffix(".attention")
        call = self._with(call, "y", block and f"{block}.context")
        return self.noted(block and f"{block}.attention_output", proceed(call))

    def attention_weights(self, call: Call, proceed: Proceed) -> Any:
        block = _nearest(self.blocks, call)
        return self.noted(block and f"{block}.weights", proceed(call))

    def feed_forward(self, call: Call, proceed: Proceed) -> Any:
        name = self.networks[call.path] = self.param_path(call, "W_1", ".W_1")
        return self.noted(name, proceed(call))

    def activation(self, call: Call, proceed: Proceed) -> Any:
        block = _nearest(self.networks, call).removesuffix(".feed_forward")
        call = self._with(call, "x", block and f"{block}.pre_activation")
        return self.noted(block and f"{block}.hidden", proceed(call))

    def linear_embedding(self, call: Call, proceed: Proceed) -> Any:
        module, _, letter = self.path(call.arguments["E"]).rpartition(".")
        if letter == "W_1":  # of a network that is made of linear embeddings
            self.networks[_around(call)] = module
            return proceed(call)
        if letter == "W_2":
            self.networks.pop(_around(call), None)
        name = module if letter in ("E", "W", "W_2") else ""
        return self.noted("logits" if name == "head" else name, proceed(call))

    def convolution(self, call: Call, proceed: Proceed) -> Any:
        name = self.param_path(call, "kernel", ".kernel") or self.param_path(call, "E", ".E")
        return self.noted(name, proceed(call))

    def positions(self, call: Call, proceed: Proceed) -> Any:
        return self.noted("tokens", proceed(call))

    def _with(self, call: Call, argument: str, name: str) -> Call:
        """Note an argument; return the call with it, or with its replacement."""
        x = self.noted(name, call.arguments[argument])
        return call.replace(arguments={**call.arguments, argument: x})

    def path(self, x: Any) -> str:
        """Return the path of a param; "" for any other array."""
        return self.paths.get(id(x), "")

    def param_path(self, call: Call, argument: str, ending: str) -> str:
        """Return the path of a param without its ending; "" for another param or array."""
        path = self.path(call.arguments.get(argument))
        return path.removesuffix(ending) if path.endswith(ending) else ""


def _around(call: Call) -> str:
    """Return the path of the call around a call."""
    return call.path.rpartition("/")[0]


def _nearest(names: Mapping[str, str], call: Call) -> str:
    """Return the name of the innermost call around this one that has one."""
    path = call.path
    while path:
        path = path.rpartition("/")[0]
        if path in names:
            return names[path]
    return ""


def _is_single_token(name: str, x: NDArray[Any]) -> bool:
    if name.rpartition(".")[2] in _OF_HEADS:
        return bool(x.shape[-2] == 1)
    return x.ndim > 2 and math.prod(x.shape[1:-1]) == 1
