"""What no law says of vtnp.deformable: exact values, refusals, counterexamples, accuracy."""

import numpy as np
import pytest

import vtnp
from vtnp.claims.cases import make
from vtnp.deformable import reference_points, weighted_sum_of_samples
from vtnp.tokens import bilinear_sample

# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(5, 5), (0, 6), (6,), (-2, -3)])
def test_a_grid_that_does_not_fit(grid):
    case = make("weighted-sum-of-samples", 0)
    error = vtnp.FormulaError if len(grid) == 2 else ValueError
    with pytest.raises(error):
        case(grid=grid)


def test_padding_misspelt():
    with pytest.raises(vtnp.FormulaError, match=r"padding: expected one of .*, got 'reflect'"):
        make("deformable-attention", 0)(padding="reflect")


def test_no_frames_and_no_samples():
    case = make("weighted-sum-of-samples", 0)
    none = {"v": case["v"][:0], "alpha": case["alpha"][:, :, :0]}
    none["positions"] = case["positions"][:, :, :0]
    with pytest.raises(
        vtnp.FormulaError, match="weighted-sum-of-samples: argument v: expected at least one"
    ):
        case(**none)
    with pytest.raises(vtnp.FormulaError, match="expected at least one sample"):
        make("deformable-weights", 0)(logits=np.zeros((2, 3, 0, 5)))


@pytest.mark.parametrize("clips", [0, 2, 5, -1])
def test_clips_that_do_not_divide(clips):
    case = make("deformable-self-attention", 0)
    z, m = (np.ones((3, case["z"].shape[-2], 7)), np.ones((3, case["z"].shape[-2], 3, 7)))
    with pytest.raises(vtnp.FormulaError, match="clips: expected B >= 1 with B 3 = 3"):
        case(z=z, m=m, clips=clips)


def test_a_grid_without_cells():
    with pytest.raises(vtnp.FormulaError, match="reference-points: argument h, w"):
        reference_points(0, 3, like=np.zeros(1))


def test_samples_are_held_for_one_frame_at_a_time(monkeypatch):
    """At most t s points d numbers are sampled at once, not u times as many."""
    case, seen = make("weighted-sum-of-samples", 1), []
    original = bilinear_sample

    def watched(v, positions, **options):
        seen.append(positions.shape[-2])
        return original(v, positions, **options)

    monkeypatch.setattr("vtnp.deformable.bilinear_sample", watched)
    weighted_sum_of_samples(**case.args)
    t, s, u, points = case["alpha"].shape
    assert seen == [t * s * points] * u
