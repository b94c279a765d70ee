"""How good a restored picture is: PSNR, SSIM, an optional learned distance, and the protocols of the papers. Knows no other room."""

from .perceptual import perceptual
from .protocol import as_8bit, prepare, to_luma
from .psnr import psnr
from .ssim import ssim

__all__ = ["as_8bit", "perceptual", "prepare", "psnr", "ssim", "to_luma"]
