"""Film: grain against tone, size and colour; looks that a clean target keeps."""

import json

import pytest
import torch
from aior_pack.aior_core.degradations import film
from aior_pack.aior_core.degradations.draw import Draw


def drawing(seed: int) -> Draw:
    return Draw(torch.Generator().manual_seed(seed))


def grain_on(level, **changes):
    params = {**film.NO_GRAIN, "sigma": 10.0, **changes}
    grey = torch.full((1, 3, 192, 192), level)
    return (film.apply_grain(grey, params, 7) - level)[0] * 255.0


def neighbour(noise, step=1):
    return ((noise[..., step:] * noise[..., :-step]).mean() / noise.var()).item()


@pytest.mark.parametrize("color", [0.0, 0.5])
@pytest.mark.parametrize("clumps", [0.0, 0.5])
def test_grain_has_the_strength_that_it_is_given_where_it_is_strongest(color, clumps):
    noise = grain_on(0.5, color=color, clumps=clumps)
    assert noise.var((1, 2)).mean().sqrt().item() == pytest.approx(10.0, rel=0.06)


def test_grain_grows_in_mid_tones():
    strength = [grain_on(level, sigma=4.0).std().item() for level in (0.06, 0.25, 0.5, 0.75, 0.94)]
    assert strength[0] < 0.65 * strength[2] and strength[4] < 0.65 * strength[2]
    assert strength[0] < strength[1] < strength[2] > strength[3] > strength[4]
    share = film.tone_share(torch.linspace(0.0, 1.0, 101), 0.4)
    assert (
        share.argmax() == 40
        and share[0] == pytest.approx(0.14)
        and share[-1] == pytest.approx(0.14, abs=1e-3)
    )


def test_grain_is_correlated_by_its_size():
    near = [neighbour(grain_on(0.5, size=size)) for size in (0.4, 0.7, 1.2, 2.0)]
    # Noise smoothed by a Gaussian of spread s has the correlation exp(-1 / (4 s^2)) with its neighbour.
    for size, value in zip((0.7, 1.2, 2.0), near[1:]):
        assert value == pytest.approx(2.718281828 ** (-1.0 / (4.0 * size**2)), abs=0.04)
    assert near == sorted(near)
    assert neighbour(grain_on(0.5, clumps=0.6), 3) > neighbour(grain_on(0.5), 3) + 0.05


def test_colour_of_grain_is_the_share_that_layers_do_not_have_in_common():
    for color in (0.0, 0.3, 0.7):
        pairs = torch.corrcoef(grain_on(0.5, color=color).flatten(1))
        assert pairs[0, 1].item() == pytest.approx(1.0 - color, abs=0.06)


def test_black_and_white_has_no_colour_and_targets_keep_the_look():
    picture = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(1))
    for seed in range(30):
        draw = drawing(seed)
        look = film.draw_look(draw)
        grain = film.draw_grain(draw, mono=look["mono"] is not None)
        assert json.loads(json.dumps([look, grain])) == [look, grain]
        target = film.apply_look(picture, look)
        out = film.apply_grain(target, grain, seed)
        assert out.shape == picture.shape and 0.0 <= out.min() and out.max() <= 1.0
        assert torch.equal(film.apply_grain(target, film.NO_GRAIN, seed), target)
        if look["name"] == "black_white" and look["black"][0] == 0.0:
            assert (out[:, 0] - out[:, 1]).abs().max() < 1e-6
    assert torch.equal(film.apply_look(picture, film.NO_LOOK), picture)


def test_looks_do_what_their_names_say():
    grey = torch.linspace(0.05, 0.95, 32).expand(1, 3, 8, 32)
    for seed in range(20):
        sepia = film.apply_look(grey, film.draw_look(drawing(seed), "sepia")).mean((0, 2, 3))
        assert sepia[0] > sepia[1] > sepia[2]
        faded = film.draw_look(drawing(seed), "faded")
        assert film.apply_look(grey, faded).min() >= grey.min() and max(faded["black"]) > 0.0
        paper = film.draw_look(drawing(seed), "print")
        assert min(paper["black"]) > 0.0 and max(paper["white"]) < 1.0
    with pytest.raises(ValueError, match="'daguerreotype'"):
        film.draw_look(drawing(0), "daguerreotype")


def test_the_seed_decides_and_pictures_of_a_batch_differ():
    grey = torch.full((2, 3, 32, 40), 0.5)
    params = {**film.NO_GRAIN, "sigma": 12.0, "color": 0.3}
    out = film.apply_grain(grey, params, 5)
    assert torch.equal(out, film.apply_grain(grey, params, 5)) and not torch.equal(out[0], out[1])
    assert torch.allclose(out[:1], film.apply_grain(grey[:1], params, 5), atol=1e-5)


@pytest.mark.parametrize("name, value", [("sigma", -1.0), ("sigma", float("nan")), ("size", 100.0)])
def test_impossible_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} of the grain"):
        film.apply_grain(torch.zeros(1, 3, 8, 8), {**film.NO_GRAIN, "sigma": 5.0, name: value}, 0)
