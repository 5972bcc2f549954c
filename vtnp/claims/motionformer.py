"""Laws and special cases of spec/motionformer/."""

import math
from itertools import combinations, pairwise

import numpy as np
from autograd import grad

from vtnp import encoder, motionformer, timesformer
from vtnp._array.xp import namespace
from vtnp.claims._registry import law, special
from vtnp.claims.common import needs_generic, passed_on
from vtnp.claims.compare import assert_at_most, assert_close, largest
from vtnp.claims.errors import needs
from vtnp.motionformer import Prototypes


def assert_between(y, values, axis):
    """Assert that y lies between the smallest and the largest of values along an axis."""
    assert_at_most(np.min(values, axis=axis, keepdims=True), y)
    assert_at_most(y, np.max(values, axis=axis, keepdims=True))


def assert_within_frames(Y, V):
    """Assert that the token of each frame lies between the values of that frame."""
    for u in range(Y.shape[-2]):
        assert_between(Y[..., u, :], V[..., u, :, :][..., None, :, :], -2)


def shuffled(x, orders):
    """Reorder the patches of x, `*b t s d`, each frame in its own order."""
    return np.stack([x[..., i, order, :] for i, order in enumerate(orders)], axis=-3)


def orders_of(case, t, s):
    return [case.rng.permutation(s) for _ in range(t)]


def permuted_tokens(Y, frames, orders):
    """Reorder trajectory tokens as their patches are reordered, the frames along both axes."""
    Y = np.stack([Y[..., i, order, :, :] for i, order in enumerate(orders)], axis=-4)
    return Y[..., frames, :, :, :][..., frames, :]


# --- Trajectory tokens ----------------------------------------------------------------------------


@law("trajectory-tokens", "in-the-hull-of-a-frame")
def tokens_in_the_hull_of_a_frame(case):
    assert_within_frames(case(), case["V"])


@law("trajectory-tokens", "permute-positions")
def tokens_permute_positions(case):
    orders = orders_of(case, *case["K"].shape[-3:-1])
    assert_close(case(K=shuffled(case["K"], orders), V=shuffled(case["V"], orders)), case())


@law("trajectory-tokens", "permute-tokens")
def tokens_permute_tokens(case):
    t, s = case["Q"].shape[-3:-1]
    frames, orders = case.rng.permutation(t), orders_of(case, t, s)
    moved = {x: shuffled(case[x], orders)[..., frames, :, :] for x in "QKV"}
    assert_close(case(**moved), permuted_tokens(case(), frames, orders))


@law("trajectory-tokens", "shift-keys-of-a-frame")
def tokens_shift_keys_of_a_frame(case):
    *_, t, _, d = case["K"].shape
    assert_close(case(K=case["K"] + case.numbers((t, 1, d))), case())


@law("trajectory-tokens", "shift-values")
def tokens_shift_values(case):
    *_, t, _, d_v = case["V"].shape
    shift = case.numbers((t, 1, d_v))
    assert_close(case(V=case["V"] + shift), case() + shift[..., 0, :])


@law("trajectory-tokens", "replication")
def tokens_replication(case):
    twice = {x: np.concatenate([case[x], case[x]], axis=-2) for x in "QKV"}
    Y = case()
    assert_close(case(**twice), np.concatenate([Y, Y], axis=-3))


@law("trajectory-tokens", "mixes-to-joint-attention")
def tokens_mix_to_joint_attention(case):
    """Joint attention weights the tokens by the shares of the frames in its softmax."""
    Q, K, V = case["Q"], case["K"], case["V"]
    *batch, t, s, d = Q.shape
    scores = Q.reshape(*batch, 1, t * s, d) @ np.swapaxes(K, -1, -2) / math.sqrt(d)
    shares = np.exp(scores - scores.max(axis=(-3, -1), keepdims=True)).sum(axis=-1)
    shares = np.moveaxis(shares / shares.sum(axis=-2, keepdims=True), -2, -1)
    shares = shares.reshape(*batch, t, s, t, 1)
    assert_close((shares * case()).sum(axis=-2), timesformer.joint_attention(Q, K, V))


@special("trajectory-tokens", "single-position")
def tokens_of_a_single_position(case):
    Q, K, V = (case[x][..., :1, :] for x in "QKV")
    Y = case(Q=Q, K=K, V=V)
    assert_close(Y, np.broadcast_to(np.moveaxis(V, -3, -2)[..., None, :, :], Y.shape), within=0)


@special("trajectory-tokens", "own-frame")
def tokens_of_the_own_frame(case):
    Y = case()
    own = np.stack([Y[..., i, :, i, :] for i in range(Y.shape[-2])], axis=-3)
    assert_close(own, timesformer.space_attention(case["Q"], case["K"], case["V"]))


@special("trajectory-tokens", "zero-queries")
def tokens_of_zero_queries(case):
    Y = case(Q=0 * case["Q"])
    assert_close(Y, np.broadcast_to(case["V"].mean(axis=-2)[..., None, None, :, :], Y.shape))


@special("trajectory-tokens", "huge-logits")
def tokens_of_huge_logits(case):
    needs(case.dtype != "float16", "scores of 1e5")
    assert_within_frames(case(Q=1e4 * case["Q"]), case["V"])


# --- Trajectory attention -------------------------------------------------------------------------


def values_of(case):
    Y = case["Y_tilde"]
    if not case["value_projection"]:
        return Y
    return Y @ case["W_v"] + case.args.get("b_v", 0.0)


@law("trajectory-attention", "in-the-hull-of-the-values")
def attention_in_the_hull_of_the_values(case):
    assert_between(case()[..., None, :], values_of(case), -2)


@law("trajectory-attention", "constant-trajectory")
def attention_of_a_constant_trajectory(case):
    Y = case["Y_tilde"]
    constant = case.with_args(Y_tilde=np.broadcast_to(Y[..., :1, :], Y.shape))
    assert_close(constant(), values_of(constant)[..., 0, :])


@law("trajectory-attention", "permute-tokens")
def attention_permute_tokens(case):
    Y = case["Y_tilde"]
    *_, t, s, _, _ = Y.shape
    frames, orders = case.rng.permutation(t), orders_of(case, t, s)
    expected = shuffled(case(), orders)[..., frames, :, :]
    assert_close(case(Y_tilde=permuted_tokens(Y, frames, orders)), expected)


@law("trajectory-attention", "own-trajectory-only")
def attention_own_trajectory_only(case):
    Y = case["Y_tilde"].copy()
    Y[..., 0, 0, :, :] += 1.0
    changed = np.abs(case(Y_tilde=Y) - case()).max(axis=-1) > 0
    assert not np.any(changed[..., 1:, :])
    assert not np.any(changed[..., 1:])


@law("trajectory-attention", "key-bias-cancels")
def attention_key_bias_cancels(case):
    b_k = case.numbers(case["W_k"].shape[-1])
    assert_close(case(b_k=b_k), case(b_k=None))


@law("trajectory-attention", "query-key-gauge")
def attention_query_key_gauge(case):
    A = case.numbers(2 * case["W_k"].shape[-1:]) + 3 * np.eye(case["W_k"].shape[-1])
    no_biases = {"b_q": None, "b_k": None}
    changed = case(W_q=case["W_q"] @ A, W_k=case["W_k"] @ np.linalg.inv(A).T, **no_biases)
    assert_close(changed, case(**no_biases), within=1e-14 * np.linalg.cond(A) ** 2 + 1e-12)


@special("trajectory-attention", "single-frame")
def attention_of_a_single_frame(case):
    single = case.with_args(Y_tilde=case["Y_tilde"][..., :1, :, :1, :])
    assert_close(single(), values_of(single)[..., 0, :])


@special("trajectory-attention", "zero-query-or-key")
def attention_of_zero_queries_or_keys(case):
    mean = values_of(case).mean(axis=-2)
    assert_close(case(W_q=0 * case["W_q"], b_q=None), mean)
    assert_close(case(W_k=0 * case["W_k"]), mean)


@special("trajectory-attention", "unprojected-values")
def attention_of_unprojected_values(case):
    """The same as projecting by the identity; W_v is ignored."""
    Y, eye = case["Y_tilde"], np.eye(case["W_q"].shape[0])
    by_identity = case(W_v=eye, b_v=None, value_projection=True)
    unprojected = case(W_v=None, b_v=None, value_projection=False)
    assert_close(unprojected, by_identity)
    ignored = case(W_v=eye + math.nan, b_v=None, value_projection=False)
    assert_close(ignored, unprojected, within=0)
    assert_between(unprojected[..., None, :], Y, -2)


@special("trajectory-attention", "huge-logits")
def attention_of_huge_logits(case):
    needs(case.dtype != "float16", "scores of 1e5")
    assert_between(case(W_q=1e4 * case["W_q"])[..., None, :], values_of(case), -2)


# --- Prototype attention --------------------------------------------------------------------------


def approximate_weights(case, **changed):
    """Return the result for V = I: the approximation of the attention weights."""
    m = {**case.args, **changed}["K"].shape[-2]
    V = np.broadcast_to(np.eye(m), (*case["K"].shape[:-2], m, m))
    return case(V=V, **changed)


def row_error(case, **changed):
    """Return the sum of the magnitudes of the errors of each row of weights."""
    args = {**case.args, **changed}
    exact = encoder.attention_weights(args["Q"], args["K"])
    return np.abs(approximate_weights(case, **changed) - exact).sum(axis=-1)


@law("prototype-attention", "rows-sum-to-one")
def prototypes_rows_sum_to_one(case):
    weights = approximate_weights(case)
    product = max(largest(case[x] @ np.swapaxes(case["P"], -1, -2)) for x in ("Q", "K"))
    # Scores far apart have exponentials that underflow; in half precision that is 17 already.
    underflows = product > 100 or case.dtype == "float16"
    assert np.all(weights > 0) or (underflows and np.all(weights >= 0))
    assert_close(weights.sum(-1), np.ones(weights.shape[:-1]))


@law("prototype-attention", "rank")
def prototypes_rank(case):
    P = case["P"][..., :2, :]
    singular = np.linalg.svd(approximate_weights(case, P=P), compute_uv=False)
    assert_at_most(singular[..., 2:], 500 * case.ulp * singular[..., :1])


@law("prototype-attention", "brackets")
def prototypes_brackets(case):
    weights = encoder.attention_weights
    product = weights(case["Q"], case["P"]) @ weights(case["P"], case["K"])
    assert_close(case(), product @ case["V"])


@law("prototype-attention", "permute-prototypes")
def prototypes_permute_prototypes(case):
    P = case["P"]
    assert_close(case(P=P[..., case.rng.permutation(P.shape[-2]), :]), case())


@law("prototype-attention", "permute-keys")
def prototypes_permute_keys(case):
    order = case.rng.permutation(case["K"].shape[-2])
    assert_close(case(K=case["K"][..., order, :], V=case["V"][..., order, :]), case())


@law("prototype-attention", "permute-queries")
def prototypes_permute_queries(case):
    order = case.rng.permutation(case["Q"].shape[-2])
    assert_close(case(Q=case["Q"][..., order, :]), case()[..., order, :])


@law("prototype-attention", "error-of-the-weights")
def prototypes_error_of_the_weights(case):
    Q, K, P = case["Q"], case["K"], case["P"]
    Omega_1 = encoder.attention_weights(Q, P)
    offset = P[..., None, :, :] - Q[..., :, None, :]
    change = np.abs(offset @ np.swapaxes(K, -1, -2)[..., None, :, :]) / math.sqrt(Q.shape[-1])
    bound = (Omega_1 * change.max(-1)).sum(-1)
    assert_at_most(row_error(case), bound)
    length = np.linalg.norm(K, axis=-1).max(-1)[..., None] / math.sqrt(Q.shape[-1])
    assert_at_most(bound, length * (Omega_1 * np.linalg.norm(offset, axis=-1)).sum(-1))


@law("prototype-attention", "error-of-the-output")
def prototypes_error_of_the_output(case):
    V = case["V"]
    width = (V.max(-2) - V.min(-2))[..., None, :]
    error = np.abs(case() - encoder.attention(case["Q"], case["K"], V))
    assert_at_most(error, row_error(case)[..., None] / 2 * width)


@law("prototype-attention", "error-with-all-queries")
def prototypes_error_with_all_queries(case):
    weights = encoder.attention_weights(case["Q"], case["Q"])
    diagonal = np.diagonal(weights, axis1=-2, axis2=-1)
    assert_at_most(row_error(case, P=case["Q"]), 2 * (1 - diagonal))


@law("prototype-attention", "error-with-all-keys")
def prototypes_error_with_all_keys(case):
    weights = encoder.attention_weights(case["K"], case["K"])
    smallest = np.diagonal(weights, axis1=-2, axis2=-1).min(-1)[..., None]
    assert_at_most(row_error(case, P=case["K"]), 2 * (1 - smallest))


@special("prototype-attention", "one-prototype")
def one_prototype(case):
    P = case["P"][..., :1, :]
    output = encoder.attention(P, case["K"], case["V"])
    assert_close(case(P=P), np.broadcast_to(output, case().shape))


@special("prototype-attention", "equal-keys")
def prototypes_equal_keys(case):
    K = np.broadcast_to(case["K"][..., :1, :], case["K"].shape)
    assert_close(case(K=K), encoder.attention(case["Q"], K, case["V"]))


@special("prototype-attention", "equal-queries")
def prototypes_equal_queries(case):
    Q = np.broadcast_to(case["Q"][..., :1, :], case["Q"].shape)
    assert_close(case(Q=Q, P=Q[..., :2, :]), encoder.attention(Q, case["K"], case["V"]))


@special("prototype-attention", "sharp-limit")
def prototypes_sharp_limit(case):
    """All queries, or all keys, of equal length, with scores so large that it is exact."""
    needs_generic(case)

    def unit(x):
        return 1e5 * x / np.linalg.norm(x, axis=-1, keepdims=True)

    Q, K = unit(case["Q"]), unit(case["K"])
    for P in (Q, K):
        assert np.max(row_error(case, Q=Q, K=K, P=P)) < 1e-6


@special("prototype-attention", "huge-logits")
def prototypes_huge_logits(case):
    needs(case.dtype != "float16", "scores of 1e5")
    assert_between(case(P=1e4 * case["P"]), case["V"], -2)


# --- Choice of prototypes -------------------------------------------------------------------------


def cosines(x):
    """Return the magnitudes of all cosines; those of a zero row are 0."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    unit = x / np.where(length == 0, 1, length)
    return np.abs(unit @ np.swapaxes(unit, -1, -2))


def each(case, order):
    """Yield the candidates and the order of choice of every element of the batch."""
    for b in np.ndindex(order.shape[:-1]):
        yield case["candidates"][b], order[b]


def worst_pair(cosine, chosen):
    """Return the largest cosine among all pairs of the chosen."""
    return max((cosine[i, j] for i, j in combinations(chosen, 2)), default=0.0)


def needs_clear_choice(case):
    """Go on only where rounding does not decide between two candidates."""
    # The formula's own order, whatever is put to the claim.
    for candidates, order in each(case, motionformer.orthogonal_prototypes(**case.args)):
        cosine = cosines(candidates)
        for k in range(1, len(order)):
            scores = np.sort(np.delete(cosine[:, order[:k]].max(axis=1), order[:k]))
            needs(np.all(scores[1:2] - scores[:1] > 1e3 * case.ulp), "a clear choice")


@law("orthogonal-prototypes", "distinct-from-start")
def choice_is_distinct_and_starts_at_start(case):
    order = case()
    assert np.all(order[..., 0] == case["start"])
    assert np.all(order >= 0)
    assert np.all(order < case["candidates"].shape[-2])
    assert all(len(set(row)) == case["r"] for _, row in each(case, order))


@law("orthogonal-prototypes", "prefix")
def choice_is_nested(case):
    whole = case(r=case["candidates"].shape[-2])
    for r in range(1, whole.shape[-1] + 1):
        assert np.array_equal(case(r=r), whole[..., :r])


@law("orthogonal-prototypes", "scores-never-decrease")
def scores_never_decrease(case):
    for candidates, order in each(case, case()):
        cosine = cosines(candidates)
        scores = [cosine[order[k], order[:k]].max() for k in range(1, len(order))]
        assert all(a <= b + 1e-12 for a, b in pairwise(scores))
        assert math.isclose(scores[-1] if scores else 0.0, worst_pair(cosine, order), abs_tol=1e-12)


@law("orthogonal-prototypes", "sign-scale-rotation")
def choice_depends_on_directions_only(case):
    needs_clear_choice(case)
    x = case["candidates"]
    *_, n, d = x.shape
    sign = case.rng.choice([-1.0, 1.0], (n, 1))
    assert np.array_equal(case(candidates=x * sign * case.rng.uniform(0.1, 10, (n, 1))), case())
    rotation = np.linalg.qr(case.numbers((d, d)))[0]
    assert np.array_equal(case(candidates=x @ rotation), case())


@law("orthogonal-prototypes", "permute-candidates")
def choice_permute_candidates(case):
    x = case["candidates"]
    if not np.all(x[..., case["start"], :].any(axis=-1)):
        return  # All candidates are orthogonal to a start of zeros, and tie.
    order = case.rng.permutation(x.shape[-2])
    start = int(np.argsort(order)[case["start"]])
    moved = case(candidates=x[..., order, :], start=start)
    assert np.array_equal(order[moved], case())


@law("orthogonal-prototypes", "greedy-guarantee")
def greedy_guarantee(case):
    """The smallest angle is at least half of that of any other set of the same size."""
    r = min(case["r"], 4)
    for candidates, order in each(case, case(r=r)):
        if not np.all(candidates.any(axis=-1)):
            continue  # A candidate of zeros has no angle.
        cosine = np.minimum(cosines(candidates), 1.0)
        best = min(worst_pair(cosine, s) for s in combinations(range(len(candidates)), r))
        assert math.acos(worst_pair(cosine, order)) >= math.acos(best) / 2 - 1e-7


@law("orthogonal-prototypes", "welch-bound")
def welch_bound(case):
    d = 2
    x = case.numbers((7, d))
    for r in range(d + 1, 8):
        order = case(candidates=x, r=r, start=0)
        bound = math.sqrt((r - d) / (d * (r - 1)))
        assert worst_pair(cosines(x), order) >= bound - 1e-12


@special("orthogonal-prototypes", "all-candidates")
def all_candidates_are_chosen_once(case):
    n = case["candidates"].shape[-2]
    assert np.array_equal(np.sort(case(r=n)), np.broadcast_to(np.arange(n), case(r=n).shape))


@special("orthogonal-prototypes", "copies-of-orthogonal-directions")
def each_of_the_orthogonal_directions_is_chosen_once(case):
    d = 5
    axes = np.linalg.qr(case.numbers((d, d)))[0]
    which = case.rng.permutation(np.arange(3 * d) % d)
    x = axes[which] * case.rng.choice([-2.0, 1.0, 0.5], (3 * d, 1))
    chosen = case(candidates=x, r=d, start=int(case.rng.integers(3 * d)))
    assert sorted(which[chosen]) == list(range(d))


@special("orthogonal-prototypes", "ties")
def ties_go_to_the_first(case):
    x = np.concatenate([np.eye(3), -np.eye(3)])
    assert np.array_equal(case(candidates=x, r=6, start=4), [4, 0, 2, 1, 3, 5])


@special("orthogonal-prototypes", "zero-candidate")
def a_candidate_of_zeros_comes_second(case):
    x = case.numbers((5, 4))
    x[3] = 0.0
    assert list(case(candidates=x, r=2, start=1)) == [1, 3]


@special("orthogonal-prototypes", "not-finite")
def candidates_that_are_not_finite_come_last(case):
    x = case.numbers((6, 4))
    x[1, 2], x[3, 0] = math.nan, -math.inf
    order = case(candidates=x, r=6, start=0)
    assert list(order[4:]) == [1, 3]
    assert np.array_equal(order[:4], [0, 2, 4, 5][:1] + [
        [0, 2, 4, 5][i] for i in case(candidates=x[[0, 2, 4, 5]], r=4, start=0)[1:]
    ])  # fmt: skip


@special("orthogonal-prototypes", "any-scale")
def no_length_overflows_or_vanishes(case):
    x = case["candidates"]
    logs = np.log10(np.abs(x[x != 0.0]))
    stays = case.dtype == "float64" and np.all(np.abs(logs) < 100)
    needs(stays, "numbers that stay normal when they are scaled by 1e200")
    for scale in (1e200, 1e-200):
        assert np.array_equal(case(candidates=scale * x), case())


@special("orthogonal-prototypes", "start-of-each")
def each_element_has_its_own_start(case):
    x = np.stack([case.numbers((5, 3)) for _ in range(2)])
    together = case(candidates=x, r=4, start=np.array([3, 1]))
    apart = [case(candidates=x[i], r=4, start=start) for i, start in enumerate((3, 1))]
    assert np.array_equal(together, apart)


@special("orthogonal-prototypes", "drawn-start")
def drawn_start(case):
    x = np.broadcast_to(case.numbers((5, 3)), (40, 5, 3))
    first, again = (case(candidates=x, r=2, start=None, rng=np.random.default_rng(1)) for _ in "ab")
    assert np.array_equal(first, again)
    assert set(first[:, 0]) == set(range(5))


@special("orthogonal-prototypes", "no-gradient", differentiates=True)
def choice_is_constant(case):
    """Indices are plain arrays, and what is computed with them has a gradient."""
    x = case["candidates"]

    def f(x):
        order = case.function(**{**case.args, "candidates": x})
        assert isinstance(order, np.ndarray)
        return namespace(x).sum(x * float(order.sum()))

    assert_close(grad(f)(x), np.full(x.shape, float(case().sum())))


# --- Trajectory prototypes ------------------------------------------------------------------------


@law("trajectory-prototypes", "rows-of-the-candidates")
def prototypes_are_candidates(case):
    needs(case.dtype == "float64", "choices that rounding does not decide")
    P, x = case(), case["candidates"]
    *batch, t, s, d = x.shape
    groups = x.reshape(*batch, 1, t * s, d) if case["shared"] else x
    order = motionformer.orthogonal_prototypes(groups, case["r"], start=case["start"])
    assert np.array_equal(P, np.take_along_axis(groups, order[..., None], axis=-2))


@law("trajectory-prototypes", "prefix")
def prototypes_are_nested(case):
    P = case()
    for r in range(1, case["r"]):
        assert np.array_equal(case(r=r), P[..., :r, :])


@law("trajectory-prototypes", "sets-of-frames")
def each_frame_has_its_own_set(case):
    x, r, start = case["candidates"], 1, 0
    P = case(shared=False, r=r, start=start)
    for i in range(x.shape[-3]):
        alone = case(candidates=x[..., i : i + 1, :, :], shared=True, r=r, start=start)
        assert np.array_equal(P[..., i : i + 1, :, :], alone)


@special("trajectory-prototypes", "no-gradient", differentiates=True)
def prototypes_have_no_gradient_by_default(case):
    x = case["candidates"]

    def f(x, *, gradient):
        P = case.function(**{**case.args, "candidates": x, "gradient": gradient})
        return namespace(P).sum(P) + 0.0 * namespace(x).sum(x)

    assert not np.any(grad(f)(x, gradient=False))
    assert grad(f)(x, gradient=True).sum() == case().size


# --- Prototype trajectory tokens ------------------------------------------------------------------


@law("prototype-trajectory-tokens", "in-the-hull-of-a-frame")
def prototype_tokens_in_the_hull_of_a_frame(case):
    assert_within_frames(case(), case["V"])


@law("prototype-trajectory-tokens", "each-frame-is-prototype-attention")
def each_frame_is_prototype_attention(case):
    Y, P = case(), case["P"]
    t = Y.shape[-2]
    for i in range(t):
        for u in range(t):
            expected = motionformer.prototype_attention(
                case["Q"][..., i, :, :], case["K"][..., u, :, :], case["V"][..., u, :, :],
                P[..., i if P.shape[-3] > 1 else 0, :, :],
            )  # fmt: skip
            assert_close(Y[..., i, :, u, :], expected)


@law("prototype-trajectory-tokens", "shift-keys-of-a-frame")
def prototype_tokens_shift_keys_of_a_frame(case):
    *_, t, _, d = case["K"].shape
    assert_close(case(K=case["K"] + case.numbers((t, 1, d))), case())


@law("prototype-trajectory-tokens", "permute-positions")
def prototype_tokens_permute_positions(case):
    orders = orders_of(case, *case["K"].shape[-3:-1])
    assert_close(case(K=shuffled(case["K"], orders), V=shuffled(case["V"], orders)), case())


@law("prototype-trajectory-tokens", "permute-prototypes")
def prototype_tokens_permute_prototypes(case):
    P = case["P"]
    assert_close(case(P=P[..., case.rng.permutation(P.shape[-2]), :]), case())


@special("prototype-trajectory-tokens", "equal-sets")
def equal_sets_are_a_shared_set(case):
    shared = case["P"][..., :1, :, :]
    t = case["Q"].shape[-3]
    assert_close(case(P=np.repeat(shared, t, axis=-3)), case(P=shared))


@special("prototype-trajectory-tokens", "equal-keys")
def prototype_tokens_of_equal_keys_are_exact(case):
    K = np.broadcast_to(case["K"][..., :1, :], case["K"].shape)
    assert_close(case(K=K), motionformer.trajectory_tokens(case["Q"], K, case["V"]))


@special("prototype-trajectory-tokens", "huge-logits")
def prototype_tokens_of_huge_logits(case):
    needs(case.dtype != "float16", "scores of 1e5")
    assert_within_frames(case(P=1e4 * case["P"]), case["V"])


# --- Self-attention and the layer -----------------------------------------------------------------


def moved(case):
    """Return an exact case, the same with its patches reordered, and how to reorder results."""
    t, s = case["z"].shape[-3:-1]
    frames, orders = case.rng.permutation(t), orders_of(case, t, s)

    def move(x):
        return shuffled(x, orders)[..., frames, :, :]

    exact = case.with_args(prototypes=None)
    return exact, exact.with_args(z=move(case["z"])), move


@law("trajectory-self-attention", "patches-ignore-class-token")
def self_attention_patches_ignore_class_token(case):
    patches, cls = case(cls=1.0 - 3.0 * case["cls"])
    before, cls_before = case()
    assert_close(patches, before)
    assert np.max(np.abs(cls - cls_before)) > 1e-6


@law("trajectory-self-attention", "permute-tokens")
def self_attention_permute_tokens(case):
    exact, other, move = moved(case)
    patches, cls = exact()
    assert_close(other(), (move(patches), cls))


@law("trajectory-self-attention", "key-bias-cancels")
def self_attention_key_bias_cancels(case):
    """In both stages. Prototypes chosen among the keys would depend on that of the first."""
    exact = case.with_args(prototypes=None)
    params = {name: dict(stage) for name, stage in case["params"].items()}
    for stage in params.values():
        heads, _, width = stage["W_k"].shape
        stage["b_k"] = case.numbers((heads, width))
    assert_close(exact(params=params), exact())


@law("trajectory-self-attention", "permute-heads")
def self_attention_permute_heads(case):
    """With their weights, and with the rows of the second projections that take them."""
    exact = case.with_args(prototypes=None)
    first, second = case["params"]["attention"], case["params"]["trajectory"]
    heads = first["W_v"].shape[0]
    order = case.rng.permutation(heads)
    of_first = {k: x if k == "b_c" else x[order] for k, x in first.items()}

    def rows(W):
        return W.reshape(heads, heads, -1, W.shape[-1])[:, order].reshape(W.shape)

    of_second = {k: (rows(x) if k.startswith("W") else x)[order] for k, x in second.items()}
    params = {"attention": of_first, "trajectory": of_second}
    assert_close(exact(params=params), exact())


@special("trajectory-self-attention", "single-frame")
def self_attention_of_a_single_frame(case):
    """With a single frame and no value projection the second stage changes nothing."""
    z = case["z"][..., :1, :, :]
    patches, _ = case(z=z, prototypes=None, value_projection=False)
    plain = encoder.multi_head_self_attention(z[..., 0, :, :], **case["params"]["attention"])
    assert_close(patches[..., 0, :, :], plain)


@special("trajectory-self-attention", "class-token-attends-to-all")
def self_attention_class_token_attends_to_all(case):
    z, cls = case["z"], case["cls"]
    *batch, t, s, d = z.shape
    tokens = np.concatenate([cls[..., None, :], z.reshape(*batch, t * s, d)], axis=-2)
    plain = encoder.multi_head_self_attention(tokens, **case["params"]["attention"])
    assert_close(case()[1], plain[..., 0, :])


@special("trajectory-self-attention", "unused-value-projection")
def self_attention_unused_value_projection(case):
    """W_v is ignored, NaN included."""
    exact = case.with_args(prototypes=None, value_projection=False)
    second = case["params"]["trajectory"]
    d_v = case["params"]["attention"]["W_v"].shape[-1]
    unused = np.full((*second["W_q"].shape[:-1], d_v), math.nan)
    params = {**case["params"], "trajectory": {**second, "W_v": unused}}
    assert_close(exact(params=params), exact(), within=0)


@special("trajectory-self-attention", "equal-patches")
def self_attention_of_equal_patches(case):
    """With prototypes the result is exact, whatever they are chosen from."""
    z = np.broadcast_to(case["z"][..., :1, :1, :], case["z"].shape)
    for prototypes in (Prototypes(2), Prototypes(2, "keys"), Prototypes(2, "both")):
        assert_close(case(z=z, prototypes=prototypes), case(z=z, prototypes=None))


@law("trajectory-layer", "patches-ignore-class-token")
def layer_patches_ignore_class_token(case):
    patches, _ = case(cls=1.0 - 3.0 * case["cls"])
    assert_close(patches, case()[0])


@law("trajectory-layer", "permute-tokens")
def layer_permute_tokens(case):
    exact, other, move = moved(case)
    patches, cls = exact()
    assert_close(other(), (move(patches), cls))


@law("trajectory-layer", "shift-passes-through")
def layer_shift_passes_through(case):
    z, cls = case["z"], case["cls"]
    shift = case.numbers((*z.shape[:-1], 1))
    other = case.numbers((*cls.shape[:-1], 1))
    patches, token = case()
    assert_close(case(z=z + shift, cls=cls + other), (patches + shift, token + other))


@special("trajectory-layer", "zero-sublayers")
def layer_of_zero_sublayers(case):
    names = {"attention": ("W_c", "b_c"), "feed_forward": ("W_2", "b_2")}
    params = dict(case["params"])
    for part, zero in names.items():
        params[part] = {k: 0 * x if k in zero else x for k, x in params[part].items()}
    assert_close(case(params=params), (case["z"], case["cls"]), within=0)


@special("trajectory-layer", "is-its-parts")
def layer_is_its_parts(case):
    params = case["params"]
    x, x_cls = (
        encoder.layer_norm(x, **params["norm_1"], eps=case["eps"]) for x in (case["z"], case["cls"])
    )
    options = {k: case[k] for k in ("value_projection", "prototypes")}
    update, update_cls = motionformer.trajectory_self_attention(x, x_cls, params, **options)
    z, cls = (
        encoder.feed_forward_sublayer(x, params, **passed_on(case))
        for x in (case["z"] + update, (case["cls"] + update_cls)[..., None, :])
    )
    assert_close(case(), (z, cls[..., 0, :]))
