"""What our models compute on the way: each quantity by name, in the order of computation.

A call of a formula is known by the very params that it is given: the layer norm whose gain is
params["layers"][3]["time"]["norm_1"]["gamma"] computes "layers.3.time.norm_1". So the formulas'
texts, and those of the models, know nothing of it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp import encoder, positions, tokens, vivit
from vtnp._array import xp
from vtnp._array.trees import tree_leaves
from vtnp.verify.functions.replaced import Function, Instead, held, once, places

Run = Callable[[Any, NDArray[Any]], Any]
Note = Callable[[str, NDArray[Any]], None]

_OF_HEADS = ("q", "k", "v", "weights", "read")  # whose tokens are the axis before the last


class Enough(Exception):  # noqa: N818  (nothing is wrong)
    """What was asked for has been computed."""


def record(
    run: Run,
    params: Any,
    x: NDArray[Any],
    note: Note,
    *,
    theirs: Mapping[str, NDArray[Any]] | None = None,
    instead: Instead | None = None,
) -> None:
    """Note the quantities of one run by name, in the order of computation.

    note: may raise Enough, which ends the run. theirs: what takes a quantity's place, as soon as it
    is noted, in all that follows, so that each is made of another implementation's. instead: a
    function of vtnp, and what is called in its place.
    Notes: of a class token that has calls of its own, names end in ".cls". What is computed once
    more in a block has a number at its end.
    """
    with ExitStack() as stack:
        if instead:
            right, other = instead
            stack.enter_context(held(places(right), right, once(right, other)))
        stack.enter_context(_Recorder(params, note, theirs or {}).watching())
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(suppress(Enough))
        run(params, x)


class _Recorder:
    def __init__(self, params: Any, note: Note, theirs: Mapping[str, NDArray[Any]]) -> None:
        self.paths = {id(x): path for path, x in tree_leaves(params)}
        self.note, self.theirs = note, theirs
        self.times: Counter[str] = Counter()
        self.block = self.network = ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the functions, as the modules hold them now."""
        with ExitStack() as stack:
            for module, name, watched in (
                (encoder, "layer_norm", self.layer_norm),
                (encoder, "qkv_projection", self.qkv_projection),
                (encoder, "output_projection", self.output_projection),
                (encoder, "attention_weights", self.attention_weights),
                (encoder, "feed_forward", self.feed_forward),
                (encoder, "gelu", self.activation),
                (encoder, "relu", self.activation),
                (tokens, "linear_embedding", self.embedding),
                (tokens, "spatio_temporal_embedding", self.convolution),
                (vivit, "tubelet_embedding", self.embedding),
                (positions, "learned_positions", self.positions),
                (_xp, "plus_bias", self.plus_bias),
            ):
                right = getattr(module, name)
                stack.enter_context(held(places(right), right, watched(right)))
            yield

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

    def path(self, x: Any, ending: str) -> str:
        """Return where a param is, less the ending; "" for what is no such param."""
        path = self.paths.get(id(x), "")
        return path.removesuffix(ending) if path.endswith(ending) else ""

    # --- Watched ----------------------------------------------------------------------------------

    def layer_norm(self, right: Function) -> Function:
        def watched(x: Any, gamma: Any, beta: Any, **options: Any) -> Any:
            name = self.path(gamma, ".gamma")
            x = self.seen(name and f"{name}.input", x)
            return self.seen(name, right(x, gamma, beta, **options))

        return watched

    def qkv_projection(self, right: Function) -> Function:
        def watched(x: Any, W: Any, **options: Any) -> Any:
            front, _, letter = self.paths.get(id(W), "").rpartition(".W_")
            self.block = front.removesuffix(".attention")
            return self.seen(front and f"{self.block}.{letter}", right(x, W, **options))

        return watched

    def output_projection(self, right: Function) -> Function:
        def watched(y: Any, W_c: Any, **options: Any) -> Any:
            block = self.path(W_c, ".W_c").removesuffix(".attention")
            y = self.seen(block and f"{block}.read", y)
            return self.seen(block and f"{block}.merged", right(y, W_c, **options))

        return watched

    def attention_weights(self, right: Function) -> Function:
        def watched(*args: Any, **options: Any) -> Any:
            return self.seen(self.block and f"{self.block}.weights", right(*args, **options))

        return watched

    def feed_forward(self, right: Function) -> Function:
        def watched(u: Any, W_1: Any, *args: Any, **options: Any) -> Any:
            name = self.network = self.path(W_1, ".W_1")
            y = right(u, W_1, *args, **options)
            self.network = ""
            return self.seen(name, y)

        return watched

    def activation(self, right: Function) -> Function:
        def watched(x: Any, **options: Any) -> Any:
            block = self.network.removesuffix(".feed_forward")
            x = self.seen(block and f"{block}.widened", x)
            return self.seen(block and f"{block}.hidden", right(x, **options))

        return watched

    def embedding(self, right: Function) -> Function:
        def watched(x: Any, E: Any, *args: Any, **options: Any) -> Any:
            # A step that widens makes its network of these.
            if network := self.path(E, ".W_1"):
                self.network = network
            y = right(x, E, *args, **options)
            if network := self.path(E, ".W_2"):
                self.network = ""
            return self.seen(network or self.path(E, ".E"), y)

        return watched

    def convolution(self, right: Function) -> Function:
        def watched(video: Any, kernel: Any, *args: Any, **options: Any) -> Any:
            return self.seen(self.path(kernel, ".kernel"), right(video, kernel, *args, **options))

        return watched

    def positions(self, right: Function) -> Function:
        def watched(z: Any, e: Any) -> Any:
            return self.seen("tokens", right(z, e))

        return watched

    def plus_bias(self, right: Function) -> Function:
        def watched(y: Any, bias: Any) -> Any:
            path = self.path(bias, ".b")
            return self.seen("logits" if path == "head" else path, right(y, bias))

        return watched


def _lone(name: str, x: NDArray[Any]) -> bool:
    """Tell whether these are a single token's."""
    if name.rpartition(".")[2] in _OF_HEADS:
        return bool(x.shape[-2] == 1)
    return x.ndim > 2 and math.prod(x.shape[1:-1]) == 1
