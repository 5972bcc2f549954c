"""Whole models: where two of them diverge on the same weights."""
