"""The array libraries that a formula is read on, and how arrays get there and back.

Installed libraries only: CI has torch, a person's machine perhaps not. The run's header names
those that took part.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from tests.support.trees import tree_map

# Optimising a graph takes longer than running it once on arrays as small as these.
_ONCE = {"scheduler": "synchronous", "optimize_graph": False}


class Reading(NamedTuple):
    """One array library: from NumPy to it and back."""

    name: str
    asarray: Callable[[np.ndarray], Any]
    to_numpy: Callable[[Any], np.ndarray]
    # JAX compiles what runs step by step one step at a time, which takes several times as long.
    compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda f: f

    def all_to_numpy(self, arrays: list[Any]) -> list[np.ndarray]:
        """Bring many arrays back at once: what lazy ones share is then computed once."""
        if self.name == "dask":
            import dask

            return list(dask.compute(*arrays, **_ONCE))
        return [self.to_numpy(x) for x in arrays]

    def call(self, function: Callable[..., Any], args: dict[str, Any]) -> Any:
        """Evaluate a function of NumPy arguments in this library; return NumPy results."""
        return tree_map(self.to_numpy, function(**tree_map(self.asarray, args)))


def _numpy() -> Reading:
    return Reading("numpy", lambda x: x, lambda x: x)


def _strict() -> Reading:
    import array_api_strict as strict

    # Arrays of this device refuse to become NumPy's: a formula that meets the host fails.
    far, near = strict.Device("device1"), strict.Device("CPU_DEVICE")
    return Reading(
        "strict",
        lambda x: strict.asarray(np.array(x), device=far),
        lambda x: np.asarray(x.to_device(near)),
    )


def _standin() -> Reading:
    from tests.support import cupy_standin

    return Reading("cupy-standin", cupy_standin.install().asarray, lambda x: x.get())


def _torch() -> Reading:
    import torch

    def to_numpy(x: Any) -> np.ndarray:
        return x.detach().numpy()

    return Reading("torch", lambda x: torch.tensor(np.array(x, order="C")), to_numpy)


def _jax() -> Reading:
    import jax

    jax.config.update("jax_enable_x64", True)
    return Reading("jax", jax.numpy.asarray, np.asarray, jax.jit)


def _dask() -> Reading:
    import dask.array as da

    def asarray(x: np.ndarray) -> Any:
        # The last two axes in two chunks each, but for those of two and one: tokens and channels,
        # which formulas sum over, are never in one piece.
        halves = tuple(-(-size // 2) if size > 2 else size for size in x.shape[-2:])
        return da.from_array(x, chunks=(*x.shape[:-2], *halves))

    return Reading("dask", asarray, lambda x: x.compute(**_ONCE))


def _cupy() -> Reading:
    import cupy

    return Reading("cupy", cupy.asarray, cupy.asnumpy)


_MAKERS: dict[str, tuple[str, Callable[[], Reading]]] = {
    "numpy": ("numpy", _numpy),
    "strict": ("array_api_strict", _strict),
    "cupy-standin": ("numpy", _standin),
    "torch": ("torch", _torch),
    "jax": ("jax", _jax),
    "dask": ("dask", _dask),
    "cupy": ("cupy", _cupy),
}


def _works(name: str) -> bool:
    library, _ = _MAKERS[name]
    if name == "cupy-standin":  # it has CuPy's place in this process
        return not _works("cupy")
    if find_spec(library) is None:
        return False
    if name == "cupy":
        import cupy

        return bool(cupy.cuda.is_available())
    return True


NAMES = tuple(name for name in _MAKERS if _works(name))
MISSING = tuple(name for name in _MAKERS if name not in NAMES)


def reading(name: str) -> Reading:
    """Return one reading by name."""
    return _MAKERS[name][1]()


# What the laws run on: `pytest --xp NAME` sets it.
chosen: Reading = _numpy()
