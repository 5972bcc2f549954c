"""Laws and special cases of spec/positions/."""

import math

import numpy as np

from vtnp import encoder, positions
from vtnp.claims._registry import law, special
from vtnp.claims.common import attends
from vtnp.claims.compare import assert_close, largest
from vtnp.claims.errors import needs


def pairs(case, e):
    """Return the sines and the cosines of a table, each n d/2, in either layout."""
    if case["layout"] == "halves":
        half = e.shape[-1] // 2
        return e[:, :half], e[:, half:]
    return e[:, 0::2], e[:, 1::2]


def frequencies(d):
    return 10000.0 ** (-2.0 * np.arange(d // 2) / d)


# --- sinusoidal positions -------------------------------------------------------------------------


@law("sinusoidal-positions", "inner-product-of-distance")
def inner_products_depend_on_distances_only(case):
    e, n = case(), case["n"]
    distance = np.subtract.outer(np.arange(n), np.arange(n))
    expected = np.cos(distance[..., None] * frequencies(case["d"])).sum(axis=-1)
    assert_close(e @ e.T, expected)


@law("sinusoidal-positions", "shift-is-a-rotation")
def a_shift_rotates_every_pair(case):
    k = 3
    sin, cos = pairs(case, case(n=case["n"] + k))
    angle = k * frequencies(case["d"])
    rotated_sin = sin[:-k] * np.cos(angle) + cos[:-k] * np.sin(angle)
    rotated_cos = cos[:-k] * np.cos(angle) - sin[:-k] * np.sin(angle)
    assert_close(sin[k:], rotated_sin)
    assert_close(cos[k:], rotated_cos)


@law("sinusoidal-positions", "recurrence")
def neighbours_add_up_to_the_middle(case):
    sin, cos = pairs(case, case(n=case["n"] + 2))
    for part in (sin, cos):
        assert_close(part[2:] + part[:-2], 2.0 * np.cos(frequencies(case["d"])) * part[1:-1])


@law("sinusoidal-positions", "layouts-permute")
def layouts_hold_the_same_numbers(case):
    halves, interleaved = case(layout="halves"), case(layout="interleaved")
    n, d = halves.shape
    assert np.array_equal(halves, interleaved.reshape(n, d // 2, 2).swapaxes(1, 2).reshape(n, d))


@law("sinusoidal-positions", "longer-tables-begin-alike")
def longer_tables_begin_alike(case):
    assert np.array_equal(case(n=case["n"] + 4)[: case["n"]], case())


@special("sinusoidal-positions", "first-position")
def position_zero(case):
    sin, cos = pairs(case, case())
    assert np.array_equal(sin[0], np.zeros_like(sin[0]))
    assert np.array_equal(cos[0], np.ones_like(cos[0]))


@special("sinusoidal-positions", "known-values")
def known_values(case):
    e = case(n=2, d=16, layout="interleaved")
    assert_close(e[1, :3], np.array([math.sin(1), math.cos(1), 0.310983593]), within=1e-9)


@special("sinusoidal-positions", "no-positions")
def an_empty_table(case):
    assert case(n=0).shape == (0, case["d"])


@law("sinusoidal-positions-2d", "gram-of-the-axes")
def inner_products_add_over_the_axes(case):
    h, w, d = case["h"], case["w"], case["d"]
    e = case().reshape(h * w, d)
    omega = 10000.0 ** (-np.arange(d // 4) / (d // 4))
    y, x = np.divmod(np.arange(h * w), w)
    expected = sum(np.cos(np.subtract.outer(p, p)[..., None] * omega).sum(axis=-1) for p in (x, y))
    assert_close(e @ e.T, expected)


@law("sinusoidal-positions-2d", "transpose-swaps-halves")
def a_transposed_grid_swaps_the_halves(case):
    half = case["d"] // 2
    swapped = case(h=case["w"], w=case["h"]).swapaxes(0, 1)
    assert np.array_equal(np.concatenate([swapped[..., half:], swapped[..., :half]], -1), case())


@law("sinusoidal-positions-2d", "column-first")
def the_first_half_depends_on_the_column_only(case):
    e, half = case(), case["d"] // 2
    columns = positions.sinusoidal_positions(case["w"], half, layout="halves")
    assert_close(e[..., :half], np.broadcast_to(columns, (case["h"], *columns.shape)))


@special("sinusoidal-positions-2d", "corner")
def the_first_corner(case):
    sin, cos = np.zeros(case["d"] // 4), np.ones(case["d"] // 4)
    assert np.array_equal(case()[0, 0], np.concatenate([sin, cos, sin, cos]))


def time_width(case):
    return case["d"] // (3 if case["split"] == "thirds" else 4)


@law("sinusoidal-positions-3d", "time-and-space")
def time_comes_before_space(case):
    e, d_t = case(), time_width(case)
    frames = positions.sinusoidal_positions(case["t"], d_t, layout="halves")
    space = positions.sinusoidal_positions_2d(case["h"], case["w"], case["d"] - d_t)
    assert_close(e[..., :d_t], np.broadcast_to(frames[:, None, None], e[..., :d_t].shape))
    assert_close(e[..., d_t:], np.broadcast_to(space, e[..., d_t:].shape))


@law("sinusoidal-positions-3d", "gram-of-distances")
def inner_products_depend_on_distances_in_space_and_time(case):
    t, h, w, d = case["t"], case["h"], case["w"], case["d"]
    e = case().reshape(t * h * w, d)
    frame, y, x = np.unravel_index(np.arange(t * h * w), (t, h, w))
    d_t = time_width(case)
    expected = 0.0
    for position, width in ((frame, d_t), (x, (d - d_t) // 2), (y, (d - d_t) // 2)):
        omega = 10000.0 ** (-2 * np.arange(width // 2) / width)
        angle = np.subtract.outer(position, position)[..., None] * omega
        expected = expected + np.cos(angle).sum(axis=-1)
    assert_close(e @ e.T, expected)


@special("sinusoidal-positions-3d", "thirds-are-equal")
def in_thirds_every_axis_has_the_same_frequencies(case):
    n = min(case["t"], case["h"], case["w"])
    e = case(split="thirds", d=12)[:n, :n, :n]
    t_x_y = [e[np.arange(n), 0, 0], e[0, 0, np.arange(n)], e[0, np.arange(n), 0]]
    for i, along_axis in enumerate(t_x_y):
        assert np.array_equal(along_axis[:, 4 * i : 4 * i + 4], t_x_y[0][:, :4])


@special("sinusoidal-positions-3d", "single-frame")
def a_single_frame(case):
    d_t = time_width(case)
    e = case(t=1)
    start = np.concatenate([np.zeros(d_t // 2), np.ones(d_t // 2)])
    assert np.array_equal(e[..., :d_t], np.broadcast_to(start, e[..., :d_t].shape))


# --- learned positions ----------------------------------------------------------------------------


@law("learned-positions", "tables-add-up")
def two_tables_are_their_sum(case):
    other = case.numbers(case["e"].shape)
    assert_close(case(z=case(e=other)), case(e=case["e"] + other))


@law("learned-positions", "the-same-for-every-video")
def the_added_vectors_do_not_depend_on_the_tokens(case):
    z = case.numbers(case["z"].shape)
    assert_close(case(z=z) - z, case() - case["z"])


@special("learned-positions", "zero-tokens")
def zero_tokens_become_their_positions(case):
    y = case(z=np.zeros_like(case["z"]))
    assert np.array_equal(y, np.broadcast_to(case["e"], y.shape))


@law("separable-positions", "a-learned-table")
def separable_positions_are_a_learned_table(case):
    e = case["e_space"] + case["e_time"][:, None]
    assert_close(case(), positions.learned_positions(case["z"], e))


@law("separable-positions", "no-interaction")
def space_and_time_do_not_interact(case):
    e = case() - case["z"]
    mixed = e - e[..., :1, :, :] - e[..., :, :1, :] + e[..., :1, :1, :]
    assert_close(mixed, np.zeros_like(mixed))


@law("separable-positions", "shift-between-tables")
def a_constant_may_move_from_one_table_to_the_other(case):
    c = case.numbers(case["e_time"].shape[-1])
    assert_close(case(e_space=case["e_space"] + c, e_time=case["e_time"] - c), case())


@special("separable-positions", "no-time")
def without_time_every_frame_gets_the_same(case):
    y = case(e_time=np.zeros_like(case["e_time"]))
    assert_close(y, case["z"] + case["e_space"])


# --- relative attention ---------------------------------------------------------------------------


def reach(case):
    """Return k, the largest distance that has a row of its own."""
    return (len(case["w_K"]) - 1) // 2


@law("relative-attention", "reversal")
def a_reversed_sequence_with_reversed_tables(case):
    mask = case.args.get("mask")
    changed = {name: np.flip(case[name], axis=-2) for name in ("Q", "K", "V", "w_K", "w_V")}
    reversed_y = case(**changed, mask=None if mask is None else np.flip(mask, axis=(-2, -1)))
    assert_close(reversed_y, np.flip(case(), axis=-2))


@law("relative-attention", "longer-tables-repeat-their-ends")
def tables_continued_by_their_ends(case):
    longer = {
        name: np.concatenate([case[name][:1], case[name], case[name][-1:]])
        for name in ("w_K", "w_V")
    }
    assert_close(case(**longer), case())


@law("relative-attention", "shift-key-table")
def a_constant_in_the_key_table_cancels(case):
    c = case.numbers(case["w_K"].shape[-1])
    assert_close(case(w_K=case["w_K"] + c), case())


@law("relative-attention", "shift-value-table")
def a_constant_in_the_value_table_is_added(case):
    c = case.numbers(case["w_V"].shape[-1])
    n = case["Q"].shape[-2]
    assert_close(case(w_V=case["w_V"] + c), case() + np.where(attends(case, n, n), c, 0.0))


@law("relative-attention", "far-tokens-permute")
def far_tokens_have_no_order(case):
    """For query i the tokens at distance k or more are alike, on either side."""
    n, k = case["Q"].shape[-2], reach(case)
    i = int(case.rng.integers(n))
    order = np.arange(n)
    order[i + k :] = case.rng.permutation(order[i + k :])
    if k > 0:
        order[: max(0, i - k + 1)] = case.rng.permutation(order[: max(0, i - k + 1)])
    changed = {name: case[name][..., order, :] for name in ("K", "V")}
    if case.args.get("mask") is not None:
        changed["mask"] = case["mask"][..., order]
    assert_close(case(**changed)[..., i, :], case()[..., i, :])


@law("relative-attention", "no-absolute-position")
def where_the_sequence_begins_does_not_matter(case):
    """Masked tokens before and after the sequence change nothing."""
    n = case["Q"].shape[-2]
    before, after = 2, 3
    around = [(0, 0)] * (case["Q"].ndim - 2) + [(before, after), (0, 0)]
    longer = {name: np.pad(case[name], around, mode="edge") for name in ("Q", "K", "V")}
    mask = case.args.get("mask")
    wide = np.zeros((n + 5, n + 5), bool)
    wide[before : before + n, before : before + n] = True if mask is None else mask
    assert_close(case(**longer, mask=wide)[..., before : before + n, :], case())


@law("relative-attention", "vectors-are-added")
def every_pair_has_its_own_key_and_value(case):
    """As in Shaw et al.'s eq. (3)-(4): each query attends to keys and values of its own."""
    n, k = case["Q"].shape[-2], reach(case)
    row = k + np.clip(np.arange(n) - np.arange(n)[:, None], -k, k)
    keys = case["K"][..., None, :, :] + case["w_K"][row]
    values = case["V"][..., None, :, :] + case["w_V"][row]
    mask = case.args.get("mask")
    own = None if mask is None else mask[:, None, :]
    expected = encoder.attention(case["Q"][..., None, :], keys, values, mask=own)
    assert_close(case(), expected[..., 0, :])


@special("relative-attention", "zero-tables")
def zero_tables_are_plain_attention(case):
    y = case(w_K=np.zeros_like(case["w_K"]), w_V=np.zeros_like(case["w_V"]))
    plain = encoder.attention(case["Q"], case["K"], case["V"], mask=case.args.get("mask"))
    assert_close(y, plain)


@special("relative-attention", "one-row")
def tables_of_one_row(case):
    """With k = 0 all distances share one row."""
    middle = slice(reach(case), reach(case) + 1)
    y = case(w_K=case["w_K"][middle], w_V=case["w_V"][middle])
    plain = encoder.attention(case["Q"], case["K"], case["V"], mask=case.args.get("mask"))
    n = case["Q"].shape[-2]
    assert_close(y, plain + np.where(attends(case, n, n), case["w_V"][middle], 0.0))


@special("relative-attention", "direction")
def the_row_after_the_middle_is_the_next_token(case):
    """If w_K draws every query to relative position +1, query i gets the value of token i + 1."""
    needs(case.dtype != "float16", "scores of 1e5")
    n, d_h = case["Q"].shape[-2:]
    w_K, w_V = np.zeros((5, d_h)), np.zeros((5, case["V"].shape[-1]))
    w_K[3, 0] = 1e4 * (1.0 + largest(case["K"]))
    Q = np.zeros_like(case["Q"])
    Q[..., 0] = 1.0
    y = case(Q=Q, w_K=w_K, w_V=w_V, mask=None)
    assert_close(y[..., : n - 1, :], case["V"][..., 1:, :])


@special("relative-attention", "single-token")
def a_single_token_attends_to_itself(case):
    one = {name: case[name][..., :1, :] for name in ("Q", "K", "V")}
    y = case(**one, mask=None)
    assert_close(y, one["V"] + case["w_V"][reach(case)], within=1e-15)


@special("relative-attention", "fully-masked-row")
def a_query_that_may_attend_to_nothing_gets_0(case):
    n = case["Q"].shape[-2]
    mask = np.ones((n, n), bool)
    mask[0] = False
    assert not np.any(case(mask=mask)[..., 0, :])
