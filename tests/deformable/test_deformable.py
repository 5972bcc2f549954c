"""What no law says of vtnp.deformable: exact values, refusals, counterexamples, accuracy."""

import re

import numpy as np
import pytest

import vtnp
from vtnp.claims.cases import make
from vtnp.deformable import reference_points, weighted_sum_of_samples

# --- What is refused ------------------------------------------------------------------------------


GRIDS = {
    (2, 5, 5): "expected grid.h * grid.w == s, got grid = Grid(t=2, h=5, w=5), s = 6",
    (2, 0, 6): "expected min(grid.h, grid.w) >= 1",
    (2, -2, -3): "expected min(grid.h, grid.w) >= 1",
    (3, 2, 3): "expected grid.t == t, got grid = Grid(t=3, h=2, w=3), t = 2",
    (2, 3): "argument grid: expected Grid(t, h, w), got (2, 3)",
}


@pytest.mark.parametrize("id", ["weighted-sum-of-samples", "deformable-attention"])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_grid_that_does_not_fit(id, grid):
    case = next(case for seed in range(99) if (case := make(id, seed))["grid"] == (2, 2, 3))
    with pytest.raises(vtnp.FormulaError, match=re.escape(f"{id}.md): {GRIDS[grid]}")):
        case(grid=grid)


@pytest.mark.parametrize("id", ["deformable-self-attention", "deformable-layer"])
@pytest.mark.parametrize(("h", "w"), [(0, 6), (-2, -3)])
def test_a_grid_without_rows_or_columns(id, h, w):
    case = next(case for seed in range(99) if (case := make(id, seed))["grid"][1:] == (2, 3))
    t = case["grid"].t
    message = f"{id}.md): expected min(grid.h, grid.w) >= 1, got grid = Grid(t={t}, h={h}, w={w})"
    with pytest.raises(vtnp.FormulaError, match=re.escape(message)):
        case(grid=(t, h, w))


def test_an_unknown_padding():
    with pytest.raises(vtnp.FormulaError, match=r"padding: expected one of .*, got 'reflect'"):
        make("deformable-attention", 0)(padding="reflect")


def test_no_frames_and_no_samples():
    case = make("weighted-sum-of-samples", 0)
    none = {"v": case["v"][:0], "alpha": case["alpha"][:, :, :0]}
    none["locations"] = case["locations"][:, :, :0]
    with pytest.raises(
        vtnp.FormulaError, match=r"weighted-sum-of-samples .*: expected u >= 1, got"
    ):
        case(**none)
    for shape in ((2, 3, 0, 5), (2, 3, 5, 0)):
        with pytest.raises(vtnp.FormulaError, match=r"expected u \* points >= 1, got"):
            make("deformable-weights", 0)(logits=np.zeros(shape))


@pytest.mark.parametrize("clips", [0, 2, 5, -1])
def test_clips_that_do_not_divide(clips):
    case = make("deformable-self-attention", 0)
    _, h, w = case["grid"]
    z, m = np.ones((3, h * w, 7)), np.ones((3, h * w, 3, 7))
    condition = r"clips \* u == t" if clips > 0 else "clips >= 1"
    with pytest.raises(vtnp.FormulaError, match=f"expected {condition}, got clips = {clips}"):
        case(z=z, m=m, grid=(3, h, w), clips=clips)


def test_a_grid_without_cells():
    for h, w, condition in ((0, 3, "h >= 1"), (3, -1, "w >= 1")):
        with pytest.raises(vtnp.FormulaError, match=f"reference-points .*: expected {condition}"):
            reference_points(h, w, like=np.zeros(1))


def test_samples_of_one_frame_are_in_memory_at_a_time():
    """At most t s points d numbers are sampled at once, not u times as many."""
    case, counts = make("weighted-sum-of-samples", 1), []

    def note(call, proceed):
        if call.id == "bilinear-sample":
            counts.append(call.arguments["locations"].shape[-2])
        return proceed(call)

    with vtnp.intercept(note):
        weighted_sum_of_samples(**case.args)
    t, s, u, points = case["alpha"].shape
    assert counts == [t * s * points] * u
