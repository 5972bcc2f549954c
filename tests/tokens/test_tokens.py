"""What no law says of vtnp.tokens: exact values, refusals, counterexamples, accuracy."""

import re

import numpy as np
import pytest
from autograd import elementwise_grad

import vtnp
from tests.support.compare import assert_close
from tests.support.peers import installed, needs

torch = installed("torch")


# --- patch-tokens, frame-tokens, clip-tokens ------------------------------------------------------


@pytest.mark.parametrize("size", [(2, 3, 4), (1, 5, 4), (1, 3, 5), (0, 3, 4), (1, -3, 4)])
def test_sizes_that_do_not_divide_are_refused(size):
    if min(size) < 1:
        expected = (
            rf"^patch-tokens \(.*\): expected min\(size\) >= 1, got size = {re.escape(str(size))}"
        )
    else:
        expected = (
            r"^patch-tokens \(.*\): expected T % size\[0\] == H % size\[1\] == W % size\[2\] == 0, "
            rf"got H = 6, T = 3, W = 8, size = {re.escape(str(size))}$"
        )
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.tokens.patch_tokens(np.zeros((3, 6, 8, 2)), size=size)


def test_another_order_is_refused():
    expected = r"^patch-tokens \(.*\): argument order: expected one of 'thwc', 'cthw', got 'hwtc'$"
    with pytest.raises(vtnp.FormulaError, match=expected):
        vtnp.tokens.patch_tokens(np.zeros((2, 2, 2, 3)), size=(1, 2, 2), order="hwtc")


# --- bilinear-sample ------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_the_gradient_at_a_cell_is_the_one_to_its_right(padding):
    v = np.random.default_rng(0).standard_normal((1, 5, 1))

    def sample(locations):
        return vtnp.tokens.bilinear_sample(v, locations, padding=padding)

    locations = np.array([[x, 0.0] for x in (-2.0, -1.0, 0.0, 3.0, 4.0, 5.0, 6.0)])
    gradient = elementwise_grad(sample)(locations)[:, 0]
    row = v[0, :, 0]
    zeros = [0.0, row[0], row[1] - row[0], row[4] - row[3], -row[4], 0.0, 0.0]
    border = [0.0, 0.0, row[1] - row[0], row[4] - row[3], 0.0, 0.0, 0.0]
    assert_close(gradient, np.array(zeros if padding == "zeros" else border))


def test_sampling_refuses_an_empty_grid_and_another_padding():
    for v, expected in (
        (np.zeros((0, 3, 2)), "h >= 1, got h = 0"),
        (np.zeros((3, 0, 2)), "w >= 1, got w = 0"),
    ):
        with pytest.raises(
            vtnp.FormulaError, match=rf"^bilinear-sample \(.*\): expected {expected}$"
        ):
            vtnp.tokens.bilinear_sample(v, np.zeros((4, 2)))
    with pytest.raises(
        vtnp.FormulaError, match="argument padding: expected one of 'zeros', 'border'"
    ):
        vtnp.tokens.bilinear_sample(np.zeros((2, 3, 2)), np.zeros((4, 2)), padding="reflection")


# --- instance-tokens ------------------------------------------------------------------------------


def test_instances_refuse_an_empty_grid_and_an_empty_frame():
    for shape, size, expected in (
        ((2, 3, 3, 1), (0, 2), r"min\(size\) >= 1, got size = \(0, 2\)"),
        ((2, 0, 3, 1), (2, 2), "H >= 1, got H = 0"),
        ((2, 3, 0, 1), (2, 2), "W >= 1, got W = 0"),
    ):
        with pytest.raises(
            vtnp.FormulaError, match=rf"^instance-tokens \(.*\): expected {expected}$"
        ):
            vtnp.tokens.instance_tokens(np.zeros(shape), np.zeros((2, 1, 4)), size=size)


# --- sliding-windows and the two convolutions -----------------------------------------------------

TOO_LARGE = (
    r"expected all\(1 <= k <= n \+ 2 \* p for .*\), got H = 3, T = 2, W = 4, padding = .*, size = "
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 1, 1), "stride": (1, 1, 1)}, TOO_LARGE + r"\(0, 1, 1\)"),
        ({"size": (1, 1, 1), "stride": (1, 0, 1)}, r"expected min\(stride\) >= 1, got stride = "),
        (
            {"size": (1, 1, 1), "stride": (1, 1, 1), "padding": (0, -1, 0)},
            r"expected min\(padding\) >= 0, got padding = \(0, -1, 0\)",
        ),
        (
            {"size": (1, 1), "stride": (1, 1, 1)},
            r"argument size: expected 3 integers, got \(1, 1\)",
        ),
        ({"size": (3, 1, 1), "stride": (1, 1, 1)}, TOO_LARGE + r"\(3, 1, 1\)"),
        (
            {"size": (1, 1, 7), "stride": (1, 1, 1), "padding": (9, 9, 1)},
            TOO_LARGE + r"\(1, 1, 7\)",
        ),
    ],
)
def test_windows_that_do_not_fit_are_refused(options, message):
    with pytest.raises(vtnp.FormulaError, match=rf"^sliding-windows \(.*\): {message}"):
        vtnp.tokens.sliding_windows(np.zeros((2, 3, 4, 1)), **options)


@pytest.mark.parametrize(
    ("kernel", "options", "message"),
    [
        ((3, 1, 1), {}, r"1 <= k_t <= T \+ 2 \* padding\[0\], got T = 2, k_t = 3"),
        ((1, 0, 1), {}, r"1 <= k_h <= H \+ 2 \* padding\[1\], got H = 3, k_h = 0"),
        (
            (1, 1, 7),
            {"padding": (9, 9, 1)},
            r"1 <= k_w <= W \+ 2 \* padding\[2\], got W = 4, k_w = 7",
        ),
        ((1, 1, 1), {"stride": (1, 0, 1)}, r"min\(stride\) >= 1, got stride = \(1, 0, 1\)"),
        ((1, 1, 1), {"padding": (0, -1, 0)}, r"min\(padding\) >= 0, got padding = \(0, -1, 0\)"),
    ],
)
def test_kernels_that_do_not_fit_are_refused(kernel, options, message):
    options = {"stride": (1, 1, 1)} | options
    video, kernel = np.zeros((2, 3, 4, 1)), np.zeros((*kernel, 1, 2))
    with pytest.raises(vtnp.FormulaError, match=rf"^spatio-.* \(.*\): expected {message}"):
        vtnp.tokens.spatio_temporal_embedding(video, kernel, **options)
    if "k_t" not in message:
        flat = {name: triple[1:] for name, triple in options.items()}
        with pytest.raises(vtnp.FormulaError, match=r"^spatial-embedding \(.*\): expected "):
            vtnp.tokens.spatial_embedding(video, kernel[0], **flat)


@pytest.mark.parametrize(("length", "shape"), [(2, (3, 1, 1)), (0, (3, 1, 1)), (1, (3, 0, 1))])
def test_clips_that_do_not_divide_or_have_no_pixels_are_refused(length, shape):
    with pytest.raises(vtnp.FormulaError, match=r"^clip-tokens \(.*\): expected "):
        vtnp.tokens.clip_tokens(np.zeros((*shape, 1)), length=length)


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
    v, locations = rng.standard_normal((2, 4, 7, 5)), rng.uniform(-2.5, 8.0, (2, 11, 2))
    grid = torch.tensor((2 * locations + 1) / np.array([7, 4]) - 1)[:, :, None]
    expected = torch.nn.functional.grid_sample(
        torch.tensor(v).permute(0, 3, 1, 2), grid, padding_mode=padding, align_corners=False
    )[..., 0].permute(0, 2, 1)
    assert_close(vtnp.tokens.bilinear_sample(v, locations, padding=padding), expected.numpy())


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("n", [2049, 2050, 2051, 2052])
def test_a_grid_wider_than_half_precision_counts(n, padding):
    """float16 has no 2051: cells counted in it would be those of the next row."""
    v = (np.arange(2 * n) % 61.0).reshape(2, n, 1)
    locations = np.array([[2046.0, 0], [2048, 0], [2050, 0], [2052, 0], [2056, 1], [np.inf, 1]])
    low = vtnp.tokens.bilinear_sample(
        v.astype(np.float16), locations.astype(np.float16), padding=padding
    )
    assert np.array_equal(low, vtnp.tokens.bilinear_sample(v, locations, padding=padding))
