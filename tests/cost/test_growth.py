"""How costs grow: exact differences of the counts over sizes, never a time.

A cost is quadratic in a size where its second difference over equal steps is the same everywhere,
linear where that is 0. The counts are integers: nothing here is approximate. Pages say under
Laws, in their sentence that begins with "Cost:", what is tested here.
"""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vtnp
from vtnp import cost
from vtnp._registry.spec import registry
from vtnp.cost.sizes import default_sizes, sized_call
from vtnp.longnet import Branch
from vtnp.mvit import Pooling

LONG, MANY, FEW = st.integers(1, 10**6), st.integers(1, 999), st.integers(1, 9)


def taken(id, **sizes):
    """Return the multiply-adds of a formula."""
    return cost.counted(registry[id].function, **sized_call(id, **sizes).arguments).multiply_adds


def second(f, n, step):
    """Return the second difference of f over n, n + step, n + 2 step."""
    return f(n) - 2 * f(n + step) + f(n + 2 * step)


@given(n=LONG, step=MANY, d_k=MANY, d_v=MANY)
def test_attention_is_quadratic(n, step, d_k, d_v):
    def of(n):
        return taken("attention", n=n, d_k=d_k, d_v=d_v)

    assert second(of, n, step) == 2 * step**2 * (d_k + d_v)
    assert of(2 * n) == 4 * of(n)


@given(t=MANY, s=MANY)
def test_joint_attention_is_quadratic_in_frames_and_in_places(t, s):
    once = taken("joint-attention", t=t, s=s)
    assert once == (s * t) ** 2 * 128
    assert taken("joint-attention", t=2 * t, s=s) == 4 * once
    assert taken("joint-attention", t=t, s=2 * s) == 4 * once


@given(t=MANY, s=MANY, step=FEW)
def test_divided_attention_has_the_sum_in_place_of_the_product(t, s, step):
    of_space, of_time = (taken(f"{over}-attention", t=t, s=s) for over in ("space", "time"))
    assert of_space + of_time == s * t * (s + t) * 128
    assert second(lambda t: taken("space-attention", t=t, s=s), t, step) == 0
    assert second(lambda s: taken("time-attention", t=t, s=s), s, step) == 0


@given(t=MANY, s=MANY, step=FEW)
def test_divided_layer_has_the_sum_in_place_of_the_product(t, s, step):
    """What is quadratic in the frames, or in the positions, of a whole layer."""
    pairs = 2 * step**2 * 768 * 2

    def over(letter, id):
        sizes = {"t": t, "s": s}
        first = sizes.pop(letter)
        return second(lambda n: taken(id, **sizes, **{letter: n}), first, step)

    assert over("s", "divided-layer") == t * pairs
    assert over("t", "divided-layer") == s * pairs
    assert over("s", "joint-layer") == t**2 * pairs
    assert over("t", "joint-layer") == s**2 * pairs


@given(n=LONG, m=LONG, r=MANY, step=MANY)
def test_prototype_attention_is_linear(n, m, r, step):
    def of(n, m):
        return taken("prototype-attention", n=n, m=m, r=r)

    assert second(lambda n: of(n, m), n, step) == second(lambda m: of(n, m), m, step) == 0
    assert of(2 * n, 2 * m) == 2 * of(n, m)


@given(t=MANY, s=MANY)
def test_trajectory_tokens_cost_what_joint_attention_does(t, s):
    once = taken("trajectory-tokens", t=t, s=s)
    assert once == taken("joint-attention", t=t, s=s) == t**2 * s**2 * 128
    assert taken("trajectory-tokens", t=2 * t, s=s) == 4 * once
    assert taken("trajectory-tokens", t=t, s=2 * s) == 4 * once


@given(t=MANY, s=MANY, r=FEW, step=FEW)
def test_prototype_trajectory_tokens_are_linear_in_places(t, s, r, step):
    def of(t, s):
        return taken("prototype-trajectory-tokens", t=t, s=s, r=r)

    assert second(lambda s: of(t, s), s, step) == 0
    assert second(lambda t: of(t, s), t, step) == 2 * step**2 * s * r * 64


@pytest.mark.parametrize("pinv", ["exact", "iterative"])
@given(landmarks=MANY, more=LONG, step=MANY)
def test_nystrom_attention_is_linear_at_so_many_landmarks(pinv, landmarks, more, step):
    def of(n):
        return taken("nystrom-attention", n=n, landmarks=landmarks, pinv=pinv)

    assert second(of, landmarks + more, step) == 0
    assert of(landmarks + more + 1) > of(landmarks + more)


@given(t=MANY, h=FEW, w=FEW, c=FEW, step=FEW)
def test_pooling_attention_has_as_many_fewer_pairs_as_its_strides_say(t, h, w, c, step):
    grid, widths = (8 * c * h, 8 * w), {"heads": 3, "d_h": 5, "d_v": 7}
    plain = {"pool_q": Pooling(), "pool_kv": Pooling(), "kernel_kv": None}
    pooled = {"pool_q": Pooling((1, c, 2)), "pool_kv": Pooling((1, 8, 4))}

    def pairs(poolings):
        id = "multi-head-pooling-attention"
        return second(lambda t: taken(id, grid=(t, *grid), **widths, **poolings), t, step)

    assert pairs(plain) == 2 * step**2 * math.prod(grid) ** 2 * 3 * (5 + 7)
    fewer = math.prod(pooled["pool_q"].stride) * math.prod(pooled["pool_kv"].stride)
    assert fewer * pairs(pooled) == pairs(plain)


@given(t=FEW, h=MANY, points=FEW)
def test_deformable_attention_is_linear_in_positions(t, h, points):
    def of(t, h, points):
        return taken("deformable-attention", t=t, grid=(t, h, 7), points=points, d=5)

    once = of(t, h, points)
    assert of(t, 2 * h, points) == of(t, h, 2 * points) == 2 * once
    assert of(2 * t, h, points) == 4 * once


# --- LongNet: what its law `linear-cost` says of pairs, of products -------------------------------


def pairs_for_each_token(n, branches):
    """Return the number of pairs of a query and a key in one head, divided by that of tokens."""
    return Fraction(taken("dilated-attention", n=n, branches=branches), n * 12 * 128)


@pytest.mark.parametrize("a", [2, 3, 4])
@pytest.mark.parametrize("w", [1, 5, 2048])
def test_dilated_attention_is_linear_and_under_the_bound_of_the_geometric_sequence(a, w):
    branches = tuple(Branch(w * a**i, a**i) for i in range(5))
    longest = branches[-1].segment
    each = pairs_for_each_token(longest, branches)
    assert each == sum(Fraction(w, r) for _, r in branches)
    assert each < Fraction(a, a - 1) * w
    for times in (2, 3, 10**6):
        assert pairs_for_each_token(times * longest, branches) == each


def test_the_published_branches_are_linear_and_over_the_bound():
    """Their dilations are not geometric; powers of 2 would meet the bound."""
    published = default_sizes("dilated-attention")["branches"]
    each = pairs_for_each_token(32768, published)
    assert each == pairs_for_each_token(32768 * 10**9, published)
    # The number of tokens is rounded up, so that there are slightly more than w / r^2 pairs.
    assert 0 < each - sum(Fraction(w, r**2) for w, r in published) < 1
    assert f"{float(each):.0f}" == "4267"
    geometric = tuple(Branch(w, 2**i) for i, (w, _) in enumerate(published))
    assert each > 2 * 2048 > pairs_for_each_token(32768, geometric)


# --- On the pages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "id",
    """attention joint-attention space-attention time-attention divided-layer prototype-attention
    trajectory-tokens prototype-trajectory-tokens nystrom-attention multi-head-pooling-attention
    deformable-attention dilated-attention""".split(),
)
def test_pages_say_how_their_cost_grows(id):
    laws = vtnp.formula(id).page.partition("\n## Laws\n")[2].partition("\n## ")[0]
    assert "\nCost: " in laws
