"""Test vectors of every formula in files, for programs in any language, and checks of results."""

from vtnp.verify.vectors.checking import check
from vtnp.verify.vectors.exporting import export

__all__ = ["check", "export"]
