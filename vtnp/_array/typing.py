"""The names used in signatures: an array of any library, and jaxtyping's kinds."""

from typing import Any

from jaxtyping import Bool, Float, Int

# Any, because one text serves NumPy, CuPy, torch, JAX, Dask and autograd's boxes of each of them.
Array = Any

__all__ = ["Array", "Bool", "Float", "Int"]
