"""How close a restored picture is to its reference: PSNR, SSIM and a learned distance, measured as papers
measure them.

The room imports no other room. Tables and error maps of what is measured here are drawn in
`report/measurement.py`.
"""

from .perceptual import perceptual
from .protocol import as_8bit, prepare, to_luma
from .psnr import psnr
from .scores import Scores, measure
from .ssim import ssim

__all__ = ["Scores", "as_8bit", "measure", "perceptual", "prepare", "psnr", "ssim", "to_luma"]
