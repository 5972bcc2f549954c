"""Whole systems, made of the formulas: a config, `init` for its params, `apply` for its logits."""

from vtnp.models import longnet, nystromformer, parts, timesformer

__all__ = ["longnet", "nystromformer", "parts", "timesformer"]
