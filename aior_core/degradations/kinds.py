"""The eight kinds of damage, what their severities mean, and the ranges their parameters are drawn from.

A severity is a number in 0..1 with a meaning a person can state. One *primary* parameter carries it:

| kind | primary parameter | severity | at severity 1 |
|---|---|---|---|
| noise | ``sigma`` (of 255) | sigma / 60 | sigma 60 |
| blur | ``sigma`` (pixels, of the Gaussian of equal spread) | sigma / 3.2 | Gaussian 3.2 px, disc of radius 6.4 px, path of 16 px |
| low_resolution | ``scale`` | (scale - 1) / 3 | x4 |
| rain | ``amount`` | amount | cloudburst |
| snow | ``amount`` | amount | blizzard |
| haze | ``beta`` (optical thickness over the depth range) | beta / 1.3 | far parts keep a fifth of their light |
| low_light | ``stops`` (exposure lost) | stops / 5 | 5 stops |
| jpeg | ``quality`` | (100 - quality) / 90 | quality 10 |

All other parameters are *style*: they say how the damage looks, not how strong it is.
"""

import torch

from .limits import require_values

KINDS = ("noise", "blur", "low_resolution", "rain", "snow", "haze", "low_light", "jpeg")

NOISE_MODELS = ("gaussian", "poisson", "grey")
BLUR_SHAPES = ("gaussian", "disc", "motion")
RESAMPLE_KERNELS = ("bicubic", "area", "bilinear")
SUBSAMPLINGS = ("4:2:0", "4:4:4")

PRIMARY = {
    "noise": "sigma",
    "blur": "sigma",
    "low_resolution": "scale",
    "rain": "amount",
    "snow": "amount",
    "haze": "beta",
    "low_light": "stops",
    "jpeg": "quality",
}

# Value of the primary parameter = offset + slope * severity.
_LINES = {
    "noise": (0.0, 60.0),
    "blur": (0.0, 3.2),
    "low_resolution": (1.0, 3.0),
    "rain": (0.0, 1.0),
    "snow": (0.0, 1.0),
    "haze": (0.0, 1.3),
    "low_light": (0.0, 5.0),
    "jpeg": (100.0, -90.0),
}

# Severities that training draws from, uniformly.
RANGES = {
    "noise": (1.0 / 60.0, 1.0),
    "blur": (0.12, 1.0),
    "low_resolution": (1.0 / 3.0, 1.0),
    "rain": (0.1, 1.0),
    "snow": (0.1, 1.0),
    "haze": (0.1, 1.0),
    "low_light": (0.15, 1.0),
    "jpeg": (1.0 / 9.0, 1.0),
}

_PRESET_STYLE = {
    "noise": {"model": "gaussian", "clip": True},
    "blur": {"shape": "gaussian", "angle": 30.0, "bend": 0.4},
    "low_resolution": {"kernel": "bicubic"},
    "rain": {"length": 22.0, "width": 0.8, "angle": 12.0, "veil": 0.12, "light": 0.9},
    "snow": {"size": 1.0, "wind": 15.0, "veil": 0.16, "light": 0.95},
    "haze": {"light": [0.86, 0.87, 0.88], "angle": -90.0, "slope": 0.7, "rough": 0.35, "cue": 0.3},
    "low_light": {"contrast": 0.4, "tint": [1.0, 1.0, 1.0], "shot": 0.02, "read": 0.015},
    "jpeg": {"subsampling": "4:2:0"},
}

_CHOICES = {"model": NOISE_MODELS, "shape": BLUR_SHAPES, "kernel": RESAMPLE_KERNELS, "subsampling": SUBSAMPLINGS}


class Draw:
    """Plain Python numbers from a torch.Generator (any device), so that parameters can be written to JSON."""

    def __init__(self, generator: torch.Generator):
        self._generator = generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        value = torch.rand((), generator=self._generator, device=self._generator.device, dtype=torch.float64).item()
        return round(low + (high - low) * value, 6)

    def seed(self) -> int:
        return int(torch.randint(2**31 - 1, (), generator=self._generator, device=self._generator.device).item())

    def index(self, weights) -> int:
        """Index drawn with probability proportional to ``weights``."""
        point = self.uniform(0.0, float(sum(weights)))
        for position, weight in enumerate(weights):
            point -= weight
            if weight > 0 and point < 0:
                return position
        return max(position for position, weight in enumerate(weights) if weight > 0)

    def choice(self, options, weights=None):
        return options[self.index(weights if weights is not None else [1.0] * len(options))]

    def light(self, low: float, high: float, spread: float) -> list:
        """An almost grey RGB colour."""
        level = self.uniform(low, high)
        return [round(min(1.0, level + self.uniform(-spread, spread)), 6) for _ in range(3)]


def require_kind(kind: str) -> str:
    """Return ``kind``; raise ValueError naming the known ones when it is not one of them."""
    if kind not in KINDS:
        raise ValueError(f"degradations: unknown kind {kind!r}; expected one of {', '.join(KINDS)}")
    return kind


def require_params(kind: str, params: dict) -> None:
    """Raise ValueError when ``params`` lacks a parameter that ``kind`` needs, or one is beyond its limits."""
    missing = [name for name in (PRIMARY[require_kind(kind)], *_PRESET_STYLE[kind]) if name not in params]
    if missing:
        raise ValueError(f"degradations: a step of {kind} lacks {', '.join(missing)}; start from preset_recipe({kind!r}, ...)")
    require_values(kind, params, _CHOICES)


def primary_from_severity(kind: str, severity: float):
    """Value of the kind's primary parameter at ``severity`` (0..1). Raises ValueError outside of that range."""
    if not 0.0 <= severity <= 1.0:
        raise ValueError(f"degradations: severity of {kind} is {severity}; expected a number in 0..1")
    offset, slope = _LINES[require_kind(kind)]
    value = round(offset + slope * severity, 6)
    return int(round(value)) if kind == "jpeg" else value


def severity_from_primary(kind: str, value: float) -> float:
    """Severity (clamped to 0..1) that ``value`` of the kind's primary parameter stands for."""
    offset, slope = _LINES[require_kind(kind)]
    return min(1.0, max(0.0, (float(value) - offset) / slope))


def preset(kind: str, severity: float, overrides: dict) -> tuple:
    """Fixed, typical parameters for tests, benchmarks and the node: ``(severity, params)``.

    ``overrides`` replace single parameters; an overridden primary parameter decides the severity that is returned.
    Raises ValueError for names or choices that the kind does not have.
    """
    params = {PRIMARY[require_kind(kind)]: primary_from_severity(kind, severity), **_PRESET_STYLE[kind]}
    for name, value in overrides.items():
        if name not in params:
            raise ValueError(f"degradations: {kind} has no parameter {name!r}; it has {', '.join(params)}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"degradations: {name} of {kind} is {value!r}; expected one of {', '.join(_CHOICES[name])}")
        params[name] = value
    if PRIMARY[kind] in overrides:
        severity = severity_from_primary(kind, params[PRIMARY[kind]])
    return severity, params


def sample(kind: str, draw: Draw) -> tuple:
    """Draw ``(severity, params)`` of one training step of ``kind``."""
    severity = draw.uniform(*RANGES[require_kind(kind)])
    style = _SAMPLERS[kind](draw)
    if kind == "noise" and style.pop("plain"):
        # A third more of what is hardest: there most is left to learn.
        severity = (draw.uniform(35.0, 55.0) if draw.uniform() < 0.33 else draw.uniform(5.0, 55.0)) / 60.0
    if kind == "jpeg" and draw.uniform() < 0.33:
        severity = draw.uniform(7.0 / 9.0, 1.0)  # quality 10 to 30: above it there is little to repair
    if kind == "low_resolution" and draw.uniform() < 0.5:
        severity = draw.choice((1.0 / 3.0, 2.0 / 3.0, 1.0))  # whole factors are what people meet most
    return severity, {PRIMARY[kind]: primary_from_severity(kind, severity), **style}


def _noise_style(draw: Draw) -> dict:
    # Half of all noise is plain colour Gaussian: the case the literature measures, half of that as the literature does, not clipped.
    if draw.uniform() < 0.5:
        return {"model": "gaussian", "clip": draw.uniform() < 0.5, "plain": True}
    return {"model": draw.choice(NOISE_MODELS, (0.2, 0.5, 0.3)), "clip": True, "plain": False}


def _blur_style(draw: Draw) -> dict:
    return {
        "shape": draw.choice(BLUR_SHAPES, (0.5, 0.2, 0.3)),
        "angle": draw.uniform(0.0, 180.0),
        "bend": draw.uniform(0.0, 1.0),
    }


def _rain_style(draw: Draw) -> dict:
    return {
        "length": draw.uniform(12.0, 36.0),
        "width": draw.uniform(0.6, 1.2),
        "angle": draw.uniform(-35.0, 35.0),
        "veil": draw.uniform(0.0, 0.25),
        "light": draw.uniform(0.75, 1.0),
    }


def _snow_style(draw: Draw) -> dict:
    return {
        "size": draw.uniform(0.7, 1.5),
        "wind": draw.uniform(-50.0, 50.0),
        "veil": draw.uniform(0.0, 0.3),
        "light": draw.uniform(0.85, 1.0),
    }


def _haze_style(draw: Draw) -> dict:
    return {
        "light": draw.light(0.7, 0.97, 0.03),
        "angle": draw.uniform(-150.0, -30.0) if draw.uniform() < 0.8 else draw.uniform(0.0, 360.0),
        "slope": draw.uniform(0.1, 1.0),
        "rough": draw.uniform(0.1, 0.6),
        "cue": draw.uniform(0.0, 0.5),
    }


def _low_light_style(draw: Draw) -> dict:
    return {
        "contrast": draw.uniform(0.0, 0.8),
        "tint": [draw.uniform(0.92, 1.08) for _ in range(3)],
        "shot": draw.uniform(0.005, 0.04),
        "read": draw.uniform(0.002, 0.03),
    }


_SAMPLERS = {
    "noise": _noise_style,
    "blur": _blur_style,
    "low_resolution": lambda draw: {"kernel": draw.choice(RESAMPLE_KERNELS, (0.5, 0.3, 0.2))},
    "rain": _rain_style,
    "snow": _snow_style,
    "haze": _haze_style,
    "low_light": _low_light_style,
    "jpeg": lambda draw: {"subsampling": draw.choice(SUBSAMPLINGS, (0.75, 0.25))},
}
