"""Distributions from which the attributes of a person are drawn."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from psfr.portraits.person import Color

_Option = TypeVar("_Option", bound=str)


class Sampler:
    """Draws values of the distributions that attributes share from one random number generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def normal(self, mean: float, std: float, max_stds: float = 2.3) -> float:
        """Draw a normal value, clipped at `max_stds` standard deviations from the mean."""
        return mean + std * float(np.clip(self.rng.standard_normal(), -max_stds, max_stds))

    def uniform(self, low: float, high: float) -> float:
        """Draw a value from [low, high)."""
        return float(self.rng.uniform(low, high))

    def bernoulli(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.rng.random() < probability)

    def choice(self, weights: dict[_Option, float]) -> _Option:
        """Draw a key of `weights` with a probability proportional to its value."""
        values = np.array(list(weights.values()), dtype=float)
        return list(weights)[int(self.rng.choice(len(values), p=values / values.sum()))]

    def color(self, max_saturation: float = 0.6) -> Color:
        """Draw any sRGB color; low saturations are more likely."""
        value = self.rng.beta(1.1, 1.3)
        hue = self.rng.random(3)
        hue = hue / hue.max()
        saturation = max_saturation * self.rng.beta(1.0, 1.6)
        return _to_color(value * (1 - saturation + saturation * hue))

    def near_color(self, color: np.ndarray | Color, std: float) -> Color:
        """Draw an sRGB color near `color`; `std` is relative, 0.4 `std` for the single channels."""
        color = np.asarray(color, dtype=float)
        brightness = 1 + std * self.rng.standard_normal()
        return _to_color(color * brightness + 0.4 * std * color * self.rng.standard_normal(3))


def _to_color(values: np.ndarray) -> Color:
    r, g, b = np.clip(values, 0.01, 1.0)
    return float(r), float(g), float(b)
