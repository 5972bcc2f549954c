"""The default of every option, as published: what a caller who leaves it out relies on."""

from inspect import signature

import pytest

import vtnp

# Defaults that are None are left out: they stand for an array or a number that is not passed.
DEFAULTS = {
    "gelu": "approximate='none'",
    "feed-forward": "activation='relu'",
    "pre-norm-layer": "activation='gelu'",
    "feed-forward-sublayer": "activation='gelu'",
    "patch-tokens": "order='thwc'",
    "bilinear-sample": "padding='zeros'",
    "sliding-windows": "padding=(0, 0, 0)",
    "spatial-embedding": "padding=(0, 0)",
    "spatio-temporal-embedding": "padding=(0, 0, 0)",
    "sinusoidal-positions": "layout='interleaved'",
    "sinusoidal-positions-3d": "split='thirds'",
    "class-attention": "over='space'",
    "attention-sublayer": "eps=1e-6",
    "space-layer": "cls_in_space='mean', eps=1e-6, activation='gelu'",
    "joint-layer": "eps=1e-6, activation='gelu'",
    "divided-layer": (
        "order='time-space', cls_in_time='out', cls_in_space='mean', eps=1e-6, activation='gelu'"
    ),
    "local-global-layer": "cls_in_local='out', cls_in_global='mean', eps=1e-6, activation='gelu'",
    "axial-layer": (
        "cls_in_time='out', cls_in_width='out', cls_in_height='mean', eps=1e-6, activation='gelu'"
    ),
    "sequence-encoder": "eps=1e-6, activation='gelu_tanh'",
    "spatio-temporal-encoder": "eps=1e-6, activation='gelu_tanh'",
    "factorised-encoder": "eps=1e-6, activation='gelu_tanh'",
    "factorised-self-attention-layer": "order='time-space', eps=1e-6, activation='gelu_tanh'",
    "factorised-dot-product-attention": "first='time'",
    "factorised-dot-product-layer": "first='time', eps=1e-6, activation='gelu_tanh'",
    "trajectory-attention": "value_projection=True",
    "trajectory-prototypes": "shared=True, gradient=False",
    "trajectory-self-attention": "value_projection=False",
    "trajectory-layer": "value_projection=False, eps=1e-6, activation='gelu'",
    "weighted-sum-of-samples": "padding='zeros'",
    "deformable-attention": "padding='zeros'",
    "deformable-self-attention": "clips=1, padding='zeros'",
    "deformable-layer": "clips=1, padding='zeros', eps=1e-6, activation='gelu'",
    "pool": "pooling=Pooling()",
    "pooled-tokens": "pooling=Pooling(), eps=1e-6, has_cls=False",
    "pooled-projection": "pooling=Pooling(), eps=1e-6, has_cls=False",
    "multi-head-pooling-attention": "pool_q=Pooling(), pool_kv=Pooling(), eps=1e-6, has_cls=False",
    "pooled-residual": "has_cls=False",
    "widening-mlp": "activation='gelu'",
    "multiscale-block": (
        "pool_q=Pooling(), pool_kv=Pooling(), eps=1e-6, activation='gelu', has_cls=False"
    ),
    "segment-means": "divisor='segment'",
    "iterative-pinv": "iterations=6, start='paper'",
    "nystrom-attention": "pinv='exact', iterations=6, start='paper'",
    "nystrom-self-attention": "pinv='exact', iterations=6, start='paper'",
    "head-offsets": "offsets='paper'",
    "dense-to-sparse": "offsets='paper'",
    "sparse-to-dense": "offsets='paper', fill=0.0",
    "valid-mask": "offsets='paper'",
    "dilated-branch": "offsets='paper', causal=False, zero_keys=False",
    "dilated-attention": "offsets='paper', causal=False, zero_keys=False",
}


def defaults_of(each: vtnp.Formula) -> str:
    parameters = signature(each.function).parameters.values()
    stated = [p for p in parameters if p.default is not p.empty and p.default is not None]
    return ", ".join(f"{p.name}={p.default!r}" for p in stated)


def written_out(defaults: str) -> str:
    return defaults.replace("Pooling()", repr(vtnp.mvit.Pooling())).replace("1e-6", "1e-06")


@pytest.mark.parametrize("each", vtnp.formulas(), ids=lambda each: each.id)
def test_defaults_are_the_published_ones(each):
    assert defaults_of(each) == written_out(DEFAULTS.get(each.id, ""))


def test_the_pooling_that_changes_nothing():
    assert tuple(vtnp.mvit.Pooling()) == ((1, 1, 1), None, None, "conv")
