"""Joint tiled diffusion: windows cover a latent, cut everything with it, and blend."""

import pytest
import torch
from aior_pack.aior_core.pipeline import windows as layout
from aior_pack.tests.tiny import picture

pytestmark = pytest.mark.usefixtures("host")


@pytest.fixture
def windows():
    from aior_pack.aior_core.host import windows

    return windows


def run(windows, x, denoiser, *, window=32, at_once=3, chunks=1, control=None, **kwargs):
    """One call of a denoiser `f(x, context, control, options, **kwargs)` through the wrapper."""
    wrapper = layout.WindowedDenoiser(window, window // 4, at_once)
    options = {"cond_or_uncond": list(range(chunks)), "sigmas": torch.arange(len(x) // chunks) + 1.0}
    context = torch.arange(len(x), dtype=torch.float32)[:, None, None].expand(-1, 2, 3)

    def executor(x, timesteps, context, y, control, transformer_options, **kwargs):
        return denoiser(x, context, control, transformer_options, **kwargs)

    return wrapper(executor, x, torch.ones(len(x)), context, None, control, options, **kwargs)


@pytest.mark.parametrize(
    "length, window, overlap",
    [(64, 64, 16), (65, 64, 16), (750, 128, 32), (500, 128, 32), (97, 32, 8), (33, 32, 8)],
)
def test_windows_cover_everything_and_overlap(length, window, overlap):
    starts = layout.starts(length, window, overlap)
    assert starts[0] == 0 and starts[-1] == max(0, length - window)
    assert all(start % layout.ALIGNED == 0 for start in starts[:-1])
    assert all(after - before <= window - overlap for before, after in zip(starts, starts[1:]))
    assert starts == sorted(set(starts))


def test_what_every_pixel_decides_for_itself_is_not_changed_by_windows(windows):
    x = torch.randn(2, 4, 50, 70)
    assert torch.allclose(run(windows, x, lambda x, *_: 3 * x), 3 * x, atol=1e-5)


def test_a_prior_and_frames_go_with_their_window(windows):
    x, prior = torch.randn(4, 4, 50, 70), torch.randn(4, 6, 50, 70)
    seen = []

    def denoiser(x, context, control, options, aior_prior):
        assert aior_prior.shape[2:] == x.shape[2:] and len(aior_prior) == len(x) == len(context)
        seen.append(len(x))
        return x * 0 + aior_prior[:, :4] + context[:, :1, :1, None]

    made = run(windows, x, denoiser, chunks=2, at_once=3, aior_prior=prior)
    expected = prior[:, :4] + torch.arange(4.0)[:, None, None, None]
    assert torch.allclose(made, expected, atol=1e-5)
    # Three pieces of a picture and their two chunks, cond and uncond, at most.
    assert max(seen) == 6 and sum(seen) == 2 * 2 * len(layout.windows_of(50, 70, 32, 8))


def test_frames_keep_their_sigmas(windows):
    x = torch.randn(3, 4, 16, 16)

    def denoiser(x, context, control, options):
        return x * 0 + options["sigmas"][:, None, None, None]

    made = run(windows, x, denoiser, at_once=2)
    assert torch.equal(made[:, 0, 0, 0], torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("height, width", [(64, 96), (62, 75)])
def test_residuals_of_a_controlnet_are_cut_with_the_window(windows, height, width):
    """A residual that holds its own position is within half a cell of the window's place at every scale."""
    x = torch.stack(torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij"))[
        None
    ]
    control = {"input": [], "middle": [], "output": []}
    for name, cell in (("output", 1), ("output", 2), ("middle", 4)):
        rows, columns = (torch.arange(-(-side // cell)) * float(cell) for side in (height, width))
        control[name].append(torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None])
    control["output"].append(None)
    calls = []

    def denoiser(x, context, control, options):
        calls.append(x.shape)
        assert control["output"].pop() is None
        for residual, cell in (
            (control["output"][0], 1),
            (control["output"][1], 2),
            (control["middle"][0], 4),
        ):
            assert residual.shape[-2:] == (-(-x.shape[-2] // cell), -(-x.shape[-1] // cell))
            assert (residual[..., 0, 0] - x[..., 0, 0]).abs().max() <= cell / 2
        return x

    assert torch.allclose(run(windows, x, denoiser, control=control), x, atol=1e-4)
    assert len(calls) > 1 and len(control["output"]) == 3


def test_progress_counts_every_window(windows):
    shares = []
    wrapper = layout.WindowedDenoiser(32, 8, 2, shares.append)
    wrapper(
        lambda x, *_, **__: x,
        torch.randn(2, 4, 40, 40),
        torch.ones(2),
        None,
        None,
        None,
        {"cond_or_uncond": [0]},
    )
    assert len(shares) == 4 and sum(shares) == pytest.approx(1.0)


def test_the_host_makes_room_for_a_window_not_for_the_picture(windows):
    asked = []
    wrapper = layout.WindowedDenoiser(32, 8, 1)
    wrapper.estimate(
        lambda model, shape, conds, **_: asked.append(shape),
        None,
        torch.Size([5, 16, 500, 750]),
        {},
        model_options={},
    )
    assert asked == [torch.Size([1, 16, 32, 32])]


def test_a_batch_of_windows_is_what_each_window_alone_is(walk, windows, small_windows):
    """Through the host's own UNet and DAFF: several windows at a time change nothing."""
    prior = walk.encode(picture(160, 288))
    from aior_pack.aior_core.host import sampling

    def sample(at_once):
        sampling.with_windows.__globals__["_at_once"] = lambda *_: at_once
        return walk.sample(prior, steps=2, tile=128)["samples"]

    kept = windows._at_once
    try:
        alone, together = sample(1), sample(4)
    finally:
        windows._at_once = kept
    assert torch.allclose(alone, together, atol=1e-4)


def test_the_same_noise_for_all_frames(walk):
    one = picture(64, 96)
    prior = walk.encode(torch.cat([one, one]))
    each, same = (
        walk.sample(prior, steps=1, noise=noise)["samples"] for noise in ("per picture", "same for all")
    )
    assert (each[0] - each[1]).abs().max() > 1e-2
    assert torch.allclose(same[0], same[1], atol=1e-5) and torch.allclose(
        same[0], walk.sample(walk.encode(one), steps=1)["samples"][0], atol=1e-4
    )
