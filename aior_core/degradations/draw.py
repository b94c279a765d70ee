"""Random parameters of damage, as plain Python values that JSON can hold."""

import torch


class Draw:
    """Plain Python numbers from a torch.Generator on any device."""

    def __init__(self, generator: torch.Generator):
        self._generator = generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw a number in `low..high`, rounded to six decimals."""
        value = torch.rand(
            (), generator=self._generator, device=self._generator.device, dtype=torch.float64
        ).item()
        return round(low + (high - low) * value, 6)

    def seed(self) -> int:
        """Draw a whole number below 2^31, the seed for the random fields of one step."""
        return int(
            torch.randint(2**31 - 1, (), generator=self._generator, device=self._generator.device).item()
        )

    def index(self, weights) -> int:
        """Draw an index with a probability proportional to `weights`."""
        point = self.uniform(0.0, float(sum(weights)))
        for position, weight in enumerate(weights):
            point -= weight
            if weight > 0 and point < 0:
                return position
        return max(position for position, weight in enumerate(weights) if weight > 0)

    def choice(self, options, weights=None):
        """Draw one of `options` with a probability proportional to `weights` (None: all alike)."""
        return options[self.index(weights if weights is not None else [1.0] * len(options))]

    def light(self, low: float, high: float, spread: float) -> list:
        """Draw an almost grey RGB colour: a level in `low..high`, and each channel within `spread` of it."""
        level = self.uniform(low, high)
        return [round(min(1.0, level + self.uniform(-spread, spread)), 6) for _ in range(3)]
