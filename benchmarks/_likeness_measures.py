"""The measures behind `likeness.py`: what one damaged picture and its truth say about the damage, in numbers.

Every function takes `lq` and `gt`, both `3 H W` in 0..1, and returns a dict of floats. A number that a
picture does not determine (no flat region, nothing damaged) is NaN, and the table leaves it out.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

NAN = float("nan")
SEEN = 10.0
"""A pixel belongs to a rain or snow layer from this many of 255 levels on."""
FEWEST_TOLD, LEAST_CONTRAST = 0.5, 0.15
"""A tone curve is fitted only where it can be known.

More than the first share of the pixels must be above black, and the standard deviation of the truth's natural
logarithm must exceed the second number."""


def decoded(picture: torch.Tensor) -> torch.Tensor:
    """Convert sRGB in 0..1 to linear light (IEC 61966-2-1)."""
    return torch.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055).clamp_min(0) ** 2.4)


def smoothed(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur `C H W` by a Gaussian; borders are reflected."""
    radius = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=picture.dtype) / sigma) ** 2)
    taps = taps / taps.sum()
    flat = F.pad(picture[:, None], (radius, radius, radius, radius), mode="reflect")
    return F.conv2d(F.conv2d(flat, taps[None, None, None]), taps[None, None, :, None])[:, 0]


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return Pearson's correlation of two equal shapes; NaN where one is constant or they are too few."""
    if a.numel() < 64 or a.std() == 0 or b.std() == 0:
        return NAN
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum().item() / math.sqrt((a * a).sum().item() * (b * b).sum().item())


def noise(lq: torch.Tensor, gt: torch.Tensor) -> dict[str, float]:
    """Measure noise: its strength, its correlation, and its dependence on colour and brightness.

        std: standard deviation, of 255.
        next, two, four: correlation along a row at a distance of 1, 2 and 4 pixels.
        red-green, green-blue: correlation between channels.
        red/green, blue/green: strength relative to green.
        bright/dark: strength in the brightest 30 % of the pixels over that in the darkest 30 %.

    Only pixels whose truth is between 8 and 247 of 255 count, because noise is clipped elsewhere.
    """
    rest = (lq - gt) * 255
    rest = rest - smoothed(rest, 8.0)  # a mean of many shots can differ in exposure
    inside = ((gt > 8 / 255) & (gt < 247 / 255)).all(0)
    if inside.sum() < 1000:
        return dict.fromkeys(
            (
                "std",
                "next",
                "two",
                "four",
                "red-green",
                "green-blue",
                "red/green",
                "blue/green",
                "bright/dark",
            ),
            NAN,
        )
    values = {"std": rest[:, inside].std(1).mean().item()}
    for name, step in (("next", 1), ("two", 2), ("four", 4)):
        both = inside[:, :-step] & inside[:, step:]
        values[name] = sum(correlation(c[:, :-step][both], c[:, step:][both]) for c in rest) / 3
    red, green, blue = rest[:, inside]
    values |= {"red-green": correlation(red, green), "green-blue": correlation(green, blue)}
    values |= {"red/green": (red.std() / green.std()).item(), "blue/green": (blue.std() / green.std()).item()}
    light = gt.mean(0)[inside]
    low, high = light.quantile(0.3), light.quantile(0.7)
    values["bright/dark"] = (green[light >= high].std() / green[light <= low].std().clamp_min(1e-6)).item()
    return values


def weather(lq: torch.Tensor, gt: torch.Tensor) -> dict[str, float]:
    """Measure a layer of rain or snow.

    share, mean: pixels that are brighter by more than SEEN, and their mean, of 255.
    darker: share of pixels that are darker by as much.
    rms: root mean square of the layer, of 255.
    along, across: mean run along and across the streaks in pixels, weighted by length.
    directions: number of directions. angle: that of the strongest, from the vertical in degrees.
    blue/red: strength in blue over that in red.
    """
    rest = (lq - gt) * 255
    layer = rest.mean(0)
    seen = layer > SEEN
    values = {"share": seen.double().mean().item(), "mean": layer[seen].mean().item() if seen.any() else NAN}
    values |= {"darker": (layer < -SEEN).double().mean().item(), "rms": rest.square().mean().sqrt().item()}
    strengths = angular_power(layer)
    angle = strengths.argmax().item() * 180 / len(strengths) - 90
    fine = (layer - smoothed(layer[None], 16.0)[0]) * 1.0
    turned = rotated(fine, angle)
    high = turned > max(5.0, 0.5 * fine.std().item())
    values |= {"along": weighted_run(high.T), "across": weighted_run(high)}
    values |= {"directions": float(peaks(strengths)), "angle": abs(angle)}
    bluish = rest[2][seen].mean() / rest[0][seen].mean() if seen.any() else torch.tensor(NAN)
    return values | {"blue/red": bluish.item()}


def angular_power(layer: torch.Tensor, bins: int = 36) -> torch.Tensor:
    """Return the spectral power of `H W` by the direction of its streaks.

    Bin 0 is -90 degrees from the vertical, `bins // 2` is 0, and right is positive.
    """
    height, width = layer.shape
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)[None]
    power = torch.fft.fft2((layer - layer.mean()) * window).abs().square()
    down, right = torch.meshgrid(torch.fft.fftfreq(height), torch.fft.fftfreq(width), indexing="ij")
    radius = (down.square() + right.square()).sqrt()
    band = (radius > 0.03) & (radius < 0.3)
    # A streak that leans by a (x = y tan a) has its power where down * cos a + right * sin a = 0.
    lean = torch.rad2deg(torch.atan2(-down, right))
    index = (((lean + 90) / 180 * bins).round().long() % bins)[band]
    total = torch.zeros(bins).index_add_(0, index, power[band])
    count = torch.zeros(bins).index_add_(0, index, torch.ones_like(power[band]))
    mean = total / count.clamp_min(1)
    return (mean + 0.5 * mean.roll(1) + 0.5 * mean.roll(-1)) / 2


def peaks(strengths: torch.Tensor, level: float = 0.4) -> int:
    """Count the maxima of a circular curve that are above `level` of its range.

    Between two of them there must be a dip below 0.8 of the lower one.
    """
    curve = (strengths - strengths.min()) / (strengths.max() - strengths.min()).clamp_min(1e-9)
    curve = curve.roll(-curve.argmin().item()).tolist() + [0.0]
    count, top, valley = 0, 0.0, 0.0
    for value in curve:
        if value > max(level, valley / 0.8) and value > top:
            top = value
        elif top and value < 0.8 * top:
            count, top, valley = count + 1, 0.0, value
        valley = min(valley, value) if not top else valley
    return max(1, count)


def rotated(layer: torch.Tensor, angle: float) -> torch.Tensor:
    """Return the middle of `H W`, turned so that streaks which lean by `angle` degrees stand upright."""
    height, width = layer.shape
    side = int(min(height, width) / 1.45)
    axis = torch.arange(side) - (side - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    lean = math.radians(angle)
    column = x * math.cos(lean) + y * math.sin(lean)
    row = -x * math.sin(lean) + y * math.cos(lean)
    grid = torch.stack((column * 2 / width, row * 2 / height), -1)
    return F.grid_sample(layer[None, None], grid[None], align_corners=False)[0, 0]


def weighted_run(high: torch.Tensor) -> float:
    """Return the mean length of the runs of True along the rows of `H W`, each weighted by its length.

    This is the length of the run in which a random True pixel lies.
    """
    edges = F.pad(high.to(torch.int8), (1, 1)).diff(dim=1).flatten()
    lengths = (edges == -1).nonzero()[:, 0] - (edges == 1).nonzero()[:, 0]
    return (lengths.double().square().sum() / lengths.sum()).item() if len(lengths) else NAN


def low_light(lq: torch.Tensor, gt: torch.Tensor) -> dict[str, float]:
    """Measure low light.

        stops: linear light that is missing. level: mean of the dark picture, of 255.
        gamma: of the tone curve in display values.
        noise, amplified: standard deviation in flat regions, as it is and amplified to the mean of the truth.
        next, red-green: correlation of that noise with the next pixel, and between red and green.
        red/green: its strength in red over that in green.
        red, blue: colour cast, the gain of a channel over that of green.

    `gamma` is NaN where the fit knows too little. Where more than half of the pixels are below three levels,
    only those are left that noise lifted. Where the truth has almost one brightness, the slope is that of
    uneven lighting.
    """
    values = {
        "stops": math.log2(decoded(gt).mean().item() / max(decoded(lq).mean().item(), 1e-7)),
        "level": lq.mean().item() * 255,
    }
    dark, clean = lq.mean(0), gt.mean(0)
    fair = (clean > 8 / 255) & (clean < 250 / 255)
    told = fair & (dark > 2 / 255)
    known = told.sum() > FEWEST_TOLD * fair.sum() and clean[told].log().std() > LEAST_CONTRAST
    values["gamma"] = slope(clean[told].log(), dark[told].log()) if known else NAN
    gain = gt.mean().item() / max(lq.mean().item(), 1e-3)
    rest = lq * 255 - gt * 255 / gain
    rest = rest - smoothed(rest, 2.0)
    flat = ((gt - smoothed(gt, 2.0)).abs().mean(0) < 3 / 255) & (dark > 1 / 255)
    if flat.sum() < 500:
        flat = torch.ones_like(flat)
    red, green, blue = rest[:, flat]
    values["noise"] = (red.std() + green.std() + blue.std()).item() / 3
    values["amplified"] = values["noise"] * gain
    both = flat[:, :-1] & flat[:, 1:]
    values["next"] = sum(correlation(c[:, :-1][both], c[:, 1:][both]) for c in rest) / 3
    values |= {
        "red-green": correlation(red, green),
        "red/green": (red.std() / green.std().clamp_min(1e-6)).item(),
    }
    cast = lq.mean((1, 2)) / gt.mean((1, 2)).clamp_min(1e-6)
    return values | {"red": (cast[0] / cast[1]).item(), "blue": (cast[2] / cast[1]).item()}


def slope(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the slope of the least-squares line of y over x; NaN for too few points."""
    if x.numel() < 64:
        return NAN
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum().item() / max((x * x).sum().item(), 1e-12)


def blur(lq: torch.Tensor, gt: torch.Tensor) -> dict[str, float]:
    """Measure the point spread function that takes `gt` to `lq` in linear light.

    It comes from a regularised division of spectra.

        extent: length in pixels of a uniform line with the same spread along its longest axis.
        round: spread across over spread along.
        gradient: mean gradient of `lq` over that of `gt`, in display values.
    """
    sharp, soft = (decoded(picture).mean(0) for picture in (gt, lq))
    height, width = sharp.shape
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)[None]
    before, after = (torch.fft.rfft2((p - p.mean()) * window) for p in (sharp, soft))
    power = before.abs().square()
    spread = torch.fft.irfft2(after * before.conj() / (power + 0.01 * power.mean()), s=(height, width))
    reach = min(48, height // 2 - 1, width // 2 - 1)
    spread = spread.roll((reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    # Below a tenth of the peak there is only the ringing of the division.
    spread = (spread - 0.1 * spread.max()).clamp_min(0)
    spread = spread / spread.sum().clamp_min(1e-12)
    axis = torch.arange(2 * reach + 1, dtype=spread.dtype)
    mean_y, mean_x = (spread.sum(1) * axis).sum(), (spread.sum(0) * axis).sum()
    y, x = (axis - mean_y)[:, None], (axis - mean_x)[None]
    moments = torch.stack(
        ((spread * y * y).sum(), (spread * x * y).sum(), (spread * x * y).sum(), (spread * x * x).sum())
    )
    across, along = torch.linalg.eigvalsh(moments.view(2, 2)).clamp_min(0).sqrt().tolist()
    # A line of length L has the standard deviation L / sqrt(12).
    values = {"extent": along * math.sqrt(12), "round": across / max(along, 1e-6)}
    steps = [
        (p.diff(dim=-1).abs().mean() + p.diff(dim=-2).abs().mean()).item() for p in (lq.mean(0), gt.mean(0))
    ]
    return values | {"gradient": steps[0] / max(steps[1], 1e-6)}


def haze(lq: torch.Tensor, gt: torch.Tensor) -> dict[str, float]:
    """Measure haze.

    The transmission is the local slope of `lq` over `gt` where `gt` has texture.

        far, middle, near: its 5, 50 and 95 % quantiles.
        light: airlight, from what is added, of 255. red, blue: its channels over green.
        added: mean of `lq` over mean of `gt`.
    """
    hazy, clear = lq.mean(0), gt.mean(0)

    def local(values: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(values[None, None], 31, 4)[0, 0]

    variance = local(clear * clear) - local(clear) ** 2
    left = (local(hazy * clear) - local(hazy) * local(clear)) / variance.clamp_min(1e-6)
    told = variance > 200 / 255**2
    values = {"added": (lq.mean() / gt.mean()).item()}
    if told.sum() < 30:
        return values | dict.fromkeys(("far", "middle", "near", "light", "red", "blue"), NAN)
    left = left[told].clamp(0.0, 1.5)
    quantiles = left.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    values |= dict(zip(("far", "middle", "near"), quantiles))
    thick = left < 0.8
    if thick.sum() < 30:
        return values | {"light": NAN, "red": NAN, "blue": NAN}
    lights = [
        ((local(a)[told] - left * local(b)[told])[thick] / (1 - left[thick])).median().item()
        for a, b in zip(lq, gt)
    ]
    green = max(lights[1], 1e-6)
    return values | {"light": sum(lights) / 3 * 255, "red": lights[0] / green, "blue": lights[2] / green}
