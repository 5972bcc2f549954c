"""What no law says of vtnp.tokens: exact values, refusals, counterexamples, accuracy."""

import numpy as np
import pytest
from autograd import elementwise_grad

import vtnp
from tests.support.compare import assert_close
from tests.support.peers import installed, needs

torch = installed("torch")


# --- patch-tokens, frame-tokens, clip-tokens ------------------------------------------------------


@pytest.mark.parametrize("size", [(2, 3, 4), (1, 5, 4), (1, 3, 5), (0, 3, 4), (1, -3, 4)])
def test_patches_that_do_not_divide_are_refused(size):
    with pytest.raises(vtnp.FormulaError, match=r"patch-tokens: argument size: .*\(3, 6, 8\)"):
        vtnp.tokens.patch_tokens(np.zeros((3, 6, 8, 2)), size=size)


def test_another_order_is_refused():
    with pytest.raises(vtnp.FormulaError, match=r"argument order: expected one of .*got 'hwtc'"):
        vtnp.tokens.patch_tokens(np.zeros((2, 2, 2, 3)), size=(1, 2, 2), order="hwtc")


# --- bilinear-sample ------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_the_gradient_at_a_cell_is_the_one_to_its_right(padding):
    v = np.random.default_rng(0).standard_normal((1, 5, 1))

    def read(x):
        return vtnp.tokens.bilinear_sample(v, x, padding=padding)

    places = np.array([[x, 0.0] for x in (-2.0, -1.0, 0.0, 3.0, 4.0, 5.0, 6.0)])
    gradient = elementwise_grad(read)(places)[:, 0]
    row = v[0, :, 0]
    zeros = [0.0, row[0], row[1] - row[0], row[4] - row[3], -row[4], 0.0, 0.0]
    border = [0.0, 0.0, row[1] - row[0], row[4] - row[3], 0.0, 0.0, 0.0]
    assert_close(gradient, np.array(zeros if padding == "zeros" else border))


def test_sampling_refuses_an_empty_grid_and_another_padding():
    with pytest.raises(vtnp.FormulaError, match="bilinear-sample: argument v: expected at least"):
        vtnp.tokens.bilinear_sample(np.zeros((0, 3, 2)), np.zeros((4, 2)))
    with pytest.raises(vtnp.FormulaError, match="argument padding: expected one of"):
        vtnp.tokens.bilinear_sample(np.zeros((2, 3, 2)), np.zeros((4, 2)), padding="reflection")


# --- instance-tokens ------------------------------------------------------------------------------


def test_instances_refuse_an_empty_grid():
    with pytest.raises(vtnp.FormulaError, match="instance-tokens: argument size"):
        vtnp.tokens.instance_tokens(np.zeros((2, 3, 3, 1)), np.zeros((2, 1, 4)), size=(0, 2))


# --- windows and the two convolutions -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"size": (0, 1, 1), "stride": (1, 1, 1)}, "three numbers each"),
        ({"size": (1, 1, 1), "stride": (1, 0, 1)}, "three numbers each"),
        ({"size": (1, 1, 1), "stride": (1, 1, 1), "padding": (0, -1, 0)}, "three numbers each"),
        ({"size": (1, 1), "stride": (1, 1, 1)}, "3 whole numbers"),
        ({"size": (3, 1, 1), "stride": (1, 1, 1)}, "at most that of the video"),
        ({"size": (1, 1, 7), "stride": (1, 1, 1), "padding": (9, 9, 1)}, "at most that of"),
    ],
)
def test_windows_that_do_not_fit_are_refused(options, word):
    with pytest.raises(vtnp.FormulaError, match=f"windows: argument size.*{word}"):
        vtnp.tokens.sliding_windows(np.zeros((2, 3, 4, 1)), **options)


@needs(torch, "vtnp[peers]")
def test_embedding_equals_torchs_convolution():
    rng = np.random.default_rng(0)
    video, kernel = rng.standard_normal((2, 5, 8, 9, 3)), rng.standard_normal((3, 2, 4, 3, 6))
    bias, stride, padding = rng.standard_normal(6), (2, 3, 1), (1, 0, 2)
    expected = torch.nn.functional.conv3d(
        torch.tensor(video).permute(0, 4, 1, 2, 3),
        torch.tensor(kernel).permute(4, 3, 0, 1, 2),
        torch.tensor(bias),
        stride=stride,
        padding=padding,
    ).permute(0, 2, 3, 4, 1)
    z = vtnp.tokens.spatio_temporal_embedding(
        video, kernel, bias=bias, stride=stride, padding=padding
    )
    assert_close(z, expected.numpy())


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_sampling_equals_torchs_grid_sample(padding):
    rng = np.random.default_rng(0)
    v, positions = rng.standard_normal((2, 4, 7, 5)), rng.uniform(-2.5, 8.0, (2, 11, 2))
    grid = torch.tensor((2 * positions + 1) / np.array([7, 4]) - 1)[:, :, None]
    expected = torch.nn.functional.grid_sample(
        torch.tensor(v).permute(0, 3, 1, 2), grid, padding_mode=padding, align_corners=False
    )[..., 0].permute(0, 2, 1)
    assert_close(vtnp.tokens.bilinear_sample(v, positions, padding=padding), expected.numpy())


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("n", [2049, 2050, 2051, 2052])
def test_a_grid_wider_than_half_precision_counts(n, padding):
    """float16 has no 2051: cells that are counted in it would be those of the next row."""
    v = (np.arange(2 * n) % 61.0).reshape(2, n, 1)
    places = np.array([[2046.0, 0], [2048, 0], [2050, 0], [2052, 0], [2056, 1], [np.inf, 1]])
    low = vtnp.tokens.bilinear_sample(
        v.astype(np.float16), places.astype(np.float16), padding=padding
    )
    assert np.array_equal(low, vtnp.tokens.bilinear_sample(v, places, padding=padding))
