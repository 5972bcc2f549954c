"""Laws and special cases of spec/encoder/."""

from vtnp.claims.encoder import attention, heads, layers, networks, norms

__all__ = ["attention", "heads", "layers", "networks", "norms"]
