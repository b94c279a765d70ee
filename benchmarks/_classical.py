"""Classical methods to compare with, for the damages that have one."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from _cases import Case

BLIND = "-"


def denoiser() -> str:
    """The denoiser to compare with: CBM3D if the package bm3d is installed, otherwise non-local means."""
    return "CBM3D" if importlib.util.find_spec("bm3d") else "NLM"


def _denoise(image: np.ndarray, sigma: float, method: str) -> np.ndarray:
    if method == "CBM3D":
        import bm3d

        return bm3d.bm3d_rgb(image, sigma)
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.6 * sigma, sigma=sigma, fast_mode=True, channel_axis=-1
    )


def dehaze(
    image: np.ndarray, patch: int = 15, radius: int = 40, keep: float = 0.95, floor: float = 0.1
) -> np.ndarray:
    """Dark channel prior (He, Sun, Tang, TPAMI 2011), transmission by guided filter; `H W 3`, 0..1."""
    from scipy.ndimage import minimum_filter, uniform_filter

    def dark(picture: np.ndarray) -> np.ndarray:
        return minimum_filter(picture.min(2), patch, mode="nearest")

    def box(plane: np.ndarray) -> np.ndarray:
        return uniform_filter(plane, 2 * radius + 1, mode="nearest")

    haziest = np.argsort(dark(image).ravel())[-max(1, image[..., 0].size // 1000) :]
    candidates = image.reshape(-1, 3)[haziest]
    light = np.maximum(candidates[candidates.sum(1).argmax()], 1e-3)
    rough = 1 - keep * dark(image / light)
    guide = image @ np.array([0.299, 0.587, 0.114])
    mean, mean_rough = box(guide), box(rough)
    slope = (box(guide * rough) - mean * mean_rough) / (box(guide * guide) - mean**2 + 1e-3)
    transmission = np.clip(box(slope) * guide + box(mean_rough - slope * mean), floor, 1)
    return (image - light) / transmission[..., None] + light


def brighten(image: np.ndarray) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation of the lightness; `H W 3`, 0..1."""
    from skimage import color, exposure

    hsv = color.rgb2hsv(image)
    hsv[..., 2] = exposure.equalize_adapthist(hsv[..., 2], clip_limit=0.03)
    return color.hsv2rgb(hsv)


def classical(case: Case, method: str = "auto") -> tuple[str, torch.Tensor | None]:
    """Name and result (`1 3 H W`, -1..1) of the classical method for the case, or ("-", None) if there is
    none.

    method: "auto", or "CBM3D" or "NLM" to choose the denoiser. Unlike AIOR, the denoiser gets the true sigma.
    """
    if case.scale is not None:
        return "bicubic", case.lq
    if case.kinds not in (("noise",), ("haze",), ("low_light",)):
        return BLIND, None
    image = ((case.lq[0].double() + 1) / 2).movedim(0, -1).numpy()
    if case.kinds == ("noise",):
        name = denoiser() if method == "auto" else method
        result = _denoise(image, case.sigma / 255, name)
    elif case.kinds == ("haze",):
        name, result = "dark channel", dehaze(image)
    else:
        name, result = "CLAHE", brighten(image)
    return name, torch.from_numpy(np.ascontiguousarray(result)).float().movedim(-1, 0)[None].clamp(
        0, 1
    ) * 2 - 1
