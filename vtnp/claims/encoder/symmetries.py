"""The symmetries of multi-head attention, on its own and within a layer.

path: the keys that lead to the attention's params within the arguments; () where they are the
arguments themselves.
"""

import numpy as np

from vtnp.claims.common import (
    attends,
    columns,
    mask_of,
    mask_one_key,
    permutation,
    rows,
    well_conditioned,
)
from vtnp.claims.compare import assert_close


def projections_at(case, path):
    """Return the projections and biases of multi-head attention."""
    node = case.args
    for key in path:
        node = node[key]
    names = ("W_q", "W_k", "W_v", "W_c", "b_q", "b_k", "b_v", "b_c")
    return {name: node[name] for name in names if name in node}


def with_projections(case, path, **changed):
    """Evaluate with some of the projections and biases changed."""
    if not path:
        return case(**changed)
    head, *rest = path
    node = dict(case.args[head])
    target = node
    for key in rest:
        target[key] = dict(target[key])
        target = target[key]
    target.update(changed)
    return case(**{head: node})


def assert_heads_permute(case, path):
    """Reordering the heads of all projections changes nothing."""
    weights = projections_at(case, path)
    order = permutation(case, weights["W_q"].shape[0])
    changed = {name: x if name == "b_c" else x[order] for name, x in weights.items()}
    # The sum over heads has another order, and scores of these random weights reach the hundreds.
    assert_close(with_projections(case, path, **changed), case(), within=1e-11)


def assert_query_key_gauge(case, path):
    """Queries times A and keys times the inverse transpose of A have the same scores."""
    weights = projections_at(case, path)
    heads, _, d_h = weights["W_q"].shape
    A, inverse = well_conditioned(case, heads, d_h)
    inverse_t = np.swapaxes(inverse, -1, -2)
    changed = {"W_q": weights["W_q"] @ A, "W_k": weights["W_k"] @ inverse_t}
    if "b_q" in weights:
        changed["b_q"] = (weights["b_q"][:, None, :] @ A)[:, 0]
        changed["b_k"] = (weights["b_k"][:, None, :] @ inverse_t)[:, 0]
    assert_close(with_projections(case, path, **changed), case(), within=1e-10)


def assert_value_gauge(case, path):
    """Values times B, and the inverse of B in the output projection, change nothing."""
    weights = projections_at(case, path)
    heads, _, d_v = weights["W_v"].shape
    B, inverse = well_conditioned(case, heads, d_v)
    changed = {"W_v": weights["W_v"] @ B, "W_c": inverse @ weights["W_c"]}
    if "b_v" in weights:
        changed["b_v"] = (weights["b_v"][:, None, :] @ B)[:, 0]
    assert_close(with_projections(case, path, **changed), case(), within=1e-10)


def assert_key_bias_is_invisible(case, path):
    """No bias of the keys changes the result."""
    heads, _, d_h = projections_at(case, path)["W_k"].shape
    plus_bias = with_projections(case, path, b_k=case.numbers((heads, d_h)))
    assert_close(plus_bias, with_projections(case, path, b_k=None), within=1e-11)


def assert_value_bias_folds(case, path):
    """The bias of the values can be folded into that of the output."""
    weights = projections_at(case, path)
    heads, _, d_v = weights["W_v"].shape
    b_v = case.numbers((heads, d_v))
    folded = weights.get("b_c", 0.0) + sum(b_v[h] @ weights["W_c"][h] for h in range(heads))
    inside = with_projections(case, path, b_v=b_v)
    outside = with_projections(case, path, b_v=None, b_c=folded)
    n = inside.shape[-2]
    m = case.args.get("memory", case["x"]).shape[-2]
    # A query that may attend to no key has no weights, and no value's bias.
    assert_close(np.where(attends(case, n, m), inside, outside), outside, within=1e-11)


def assert_queries_and_keys_do_not_matter(case, path):
    """With a single key its weight is 1, whatever the score."""
    weights = projections_at(case, path)
    changed = {name: case.numbers(weights[name].shape) for name in ("W_q", "W_k")}
    changed |= {name: None for name in ("b_q", "b_k") if name in weights}
    assert_close(with_projections(case, path, **changed), case(), within=1e-14)


def assert_tokens_permute(case):
    """Reordering the tokens, and the mask with them, reorders the result."""
    n = case["x"].shape[-2]
    order = permutation(case, n)
    mask = columns(rows(mask_of(case, n, n), order), order)
    assert_close(case(x=rows(case["x"], order), mask=mask), rows(case(), order), within=1e-11)


def assert_replicates(case):
    """Repeating the sequence repeats the result."""
    n = case["x"].shape[-2]
    thrice = np.tile(np.arange(n), 3)
    mask = columns(rows(mask_of(case, n, n), thrice), thrice)
    repeated = case(x=rows(case["x"], thrice), mask=mask)
    assert_close(repeated, rows(case(), thrice), within=1e-11)


def assert_masked_token_is_deleted(case):
    """Masking a token for all others gives what is left when it is deleted."""
    n = case["x"].shape[-2]
    _, mask, kept = mask_one_key(case, n, n)
    alone = case(x=rows(case["x"], kept), mask=columns(rows(mask, kept), kept))
    assert_close(rows(case(mask=mask), kept), alone, within=1e-11)


def permuted_hidden(case, network):
    """Return the params of a feed-forward network with its hidden units reordered."""
    order = permutation(case, network["W_1"].shape[1])
    changed = {**network, "W_1": columns(network["W_1"], order), "W_2": rows(network["W_2"], order)}
    return {**changed, "b_1": network["b_1"][order]} if "b_1" in network else changed
