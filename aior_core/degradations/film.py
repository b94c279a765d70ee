"""Film and print: grain that is correlated and strongest in mid-tones, and the looks of old pictures.

Grain is damage and can be removed. A look (black and white, sepia, faded dyes, the paper of a print) is what
the picture is. A clean target keeps it, and `apply_look` makes that target. The dots of a halftone print
carry the picture itself, so nothing here draws them or counts them as damage.
"""

import math

import torch

from .camera.chance import normal, randn, streams
from .draw import Draw

LOOKS = ("color", "black_white", "sepia", "faded", "print")
NO_LOOK = {"name": "color", "mono": None, "gamma": [1.0] * 3, "black": [0.0] * 3, "white": [1.0] * 3}
NO_GRAIN = {"sigma": 0.0, "size": 0.6, "clumps": 0.0, "peak": 0.5, "color": 0.0}


def draw_look(draw: Draw, name: str | None = None) -> dict:
    """Draw a look by `name` (None: any). Raises ValueError for a name that is not in `LOOKS`."""
    name = name or draw.choice(LOOKS, (0.35, 0.2, 0.15, 0.15, 0.15))
    if name not in LOOKS:
        raise ValueError(f"film: unknown look {name!r}; expected one of {', '.join(LOOKS)}")
    mono, gamma, black, white = None, [1.0] * 3, [0.0] * 3, [1.0] * 3
    if name in ("black_white", "sepia"):
        # Film between one that is blind to red and one that sees red best, as through a red filter.
        red = draw.uniform(0.05, 0.6)
        green = draw.uniform(0.3, 0.7) * (1.0 - red)
        mono = [red, round(green, 6), round(1.0 - red - green, 6)]
        contrast = draw.uniform(0.85, 1.25)
        gamma = [contrast] * 3
    if name == "sepia":
        tint = draw.uniform(0.1, 0.5)
        gamma = [round(gamma[0] * (1.0 + part * tint), 6) for part in (-0.4, 0.1, 0.7)]
        white = [1.0, round(1.0 - 0.08 * tint, 6), round(1.0 - 0.35 * tint, 6)]
    if name == "faded":
        # Dyes lose density: most often cyan first, which turns pictures red, or yellow, which turns them
        # blue.
        loss = [draw.uniform(0.0, 0.55), draw.uniform(0.0, 0.3), draw.uniform(0.0, 0.45)]
        gamma = [round(1.0 - part, 6) for part in loss]
        black = [round(0.25 * part, 6) for part in loss]
    if name == "print" or (mono is not None and draw.uniform() < 0.5):
        level, warm = draw.uniform(0.82, 0.98), draw.uniform(0.0, 0.1)
        white = [round(part * level * (1.0 - warm * step), 6) for part, step in zip(white, (0.0, 0.4, 1.0))]
        base = draw.uniform(0.02, 0.16)
        black = [
            round(part + base * (1.0 - 0.3 * warm * step), 6) for part, step in zip(black, (0.0, 1.0, 2.0))
        ]
    return {"name": name, "mono": mono, "gamma": gamma, "black": black, "white": white}


def draw_grain(draw: Draw, sigma: float | None = None, mono: bool = False) -> dict:
    """Draw grain of `sigma` (of 255; None: 2 to 26). `mono` gives grain without colour."""
    return {
        "sigma": round(2.0 * 13.0 ** draw.uniform(), 6) if sigma is None else sigma,
        # Spread of a grain in pixels of the scan. 0.4 is nearly white noise, 1.6 an enlarged detail of fast
        # film.
        "size": round(math.exp(normal(draw, -0.35, 0.4, 2.0)), 6),
        "clumps": draw.uniform(0.0, 0.6),
        "peak": draw.uniform(0.38, 0.6),
        "color": 0.0 if mono else draw.uniform(0.05, 0.35),
    }


def apply_look(picture: torch.Tensor, params: dict, seed: int = 0) -> torch.Tensor:
    """Apply a look without grain to `picture` (`B 3 H W`, 0..1). Nothing is random, so `seed` is unused.

    Every channel becomes `black + (white - black) * x^gamma`. With equal ends and gamma 1 the picture is
    returned as it is.
    """
    gamma, black, white = (
        torch.tensor(params[name]).to(picture).view(1, 3, 1, 1) for name in ("gamma", "black", "white")
    )
    if params["mono"] is not None:
        weights = torch.tensor(params["mono"]).to(picture).view(1, 3, 1, 1)
        picture = (picture * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    elif params["gamma"] == [1.0] * 3 and params["black"] == [0.0] * 3 and params["white"] == [1.0] * 3:
        return picture
    return black + (white - black) * picture.clamp(0.0, 1.0).pow(gamma)


def apply_grain(picture: torch.Tensor, params: dict, seed: int) -> torch.Tensor:
    """Lay grain over `picture` (`B 3 H W`, display values 0..1); the result is clamped to 0..1.

    The standard deviation, over the channels, is `sigma / 255` at the tone `peak`. It falls to a seventh at
    black and white, where film has little silver or is full of it. The layers for red, green and blue agree
    except for the share `color`. Blue has the coarsest grain, because its layer lies on top and is the
    fastest. Random fields come from the CPU. Raises ValueError for a sigma outside of 0..255 or a size
    outside of 0.2..8.
    """
    sigma, size = params["sigma"], params["size"]
    if not (math.isfinite(sigma) and 0.0 <= sigma <= 255.0):
        raise ValueError(f"film: sigma of the grain is {sigma}; expected a number in 0..255")
    if not (math.isfinite(size) and 0.2 <= size <= 8.0):
        raise ValueError(f"film: size of the grain is {size}; expected a number of pixels in 0.2..8")
    if sigma == 0.0:
        return picture
    generators = streams(seed, picture.shape[0])
    shape = picture.shape[-2:]
    field = _grains(generators, 1, shape, size, params["clumps"]).expand(-1, 3, -1, -1)
    if params["color"] > 0.0:
        layers = [_grains(generators, 1, shape, size * grow, params["clumps"]) for grow in (1.0, 0.9, 1.3)]
        own = torch.cat(layers, 1)
        field = field * math.sqrt(1.0 - params["color"]) + own * math.sqrt(params["color"])
        strength = torch.tensor([1.05, 0.85, 1.08]).view(1, 3, 1, 1)
        field = field * strength / strength.square().mean().sqrt()
    return (picture + field.to(picture) * tone_share(picture, params["peak"]) * (sigma / 255.0)).clamp(
        0.0, 1.0
    )


def tone_share(picture: torch.Tensor, peak: float) -> torch.Tensor:
    """Return how strong grain is at each value (any shape, 0..1): 1 at `peak`, a seventh at 0 and 1."""
    # The power moves the middle of the parabola to the peak.
    bent = picture.clamp(0.0, 1.0).pow(math.log(0.5) / math.log(peak))
    return 0.14 + 0.86 * (4.0 * bent * (1.0 - bent)).clamp_min(0.0).sqrt()


def _grains(generators: list, channels: int, shape, size: float, clumps: float) -> torch.Tensor:
    """Return `B channels H W` of unit variance: single grains of `size`, and clumps of them 2.5 times as
    wide.
    """
    field = _spot_field(generators, channels, shape, size)
    if clumps <= 0.0:
        return field
    return field * math.sqrt(1.0 - clumps**2) + _spot_field(generators, channels, shape, size * 2.5) * clumps


def _spot_field(generators: list, channels: int, shape, size: float) -> torch.Tensor:
    """Return white noise smoothed by a Gaussian of `size`, with a variance of 1 in expectation."""
    reach = max(1, math.ceil(3.0 * size))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float32) / size) ** 2)
    taps = taps / taps.square().sum().sqrt()
    noise = randn(generators, channels, shape[0] + 2 * reach, shape[1] + 2 * reach).flatten(0, 1)[:, None]
    noise = torch.nn.functional.conv2d(noise, taps.view(1, 1, 1, -1))
    noise = torch.nn.functional.conv2d(noise, taps.view(1, 1, -1, 1))
    return noise[:, 0].view(len(generators), channels, *shape)
