"""Bayer mosaics, and three ways to fill in the two colours that each site of the sensor lacks."""

import torch
import torch.nn.functional as F

from ..fields import sides

PATTERNS = ("rggb", "grbg", "gbrg", "bggr")
DEMOSAICS = ("none", "bilinear", "malvar", "edges")


def bayer_masks(pattern: str, height: int, width: int, device: torch.device) -> torch.Tensor:
    """Return `3 H W` of 0 and 1: which colour each site of the sensor sees.

    Raises ValueError for an unknown pattern.
    """
    if pattern not in PATTERNS:
        raise ValueError(f"camera: unknown Bayer pattern {pattern!r}; expected one of {', '.join(PATTERNS)}")
    cell = torch.tensor([[letter == color for letter in pattern] for color in "rgb"], dtype=torch.float32)
    masks = cell.view(3, 2, 2).repeat(1, -(-height // 2), -(-width // 2))
    return masks[:, :height, :width].contiguous().to(device)


def mosaic(raw: torch.Tensor, pattern: str) -> torch.Tensor:
    """Return `B 1 H W`: for each pixel of `raw` (`B 3 H W`) the one colour that its site sees."""
    masks = bayer_masks(pattern, *sides(raw), raw.device).to(raw.dtype)
    return (raw * masks).sum(1, keepdim=True)


def demosaic(sites: torch.Tensor, pattern: str, method: str) -> torch.Tensor:
    """Return `B 3 H W` from the mosaic `sites` (`B 1 H W`). The picture is reflected at its borders.

    "bilinear" averages the neighbours of the same colour (kornia's `raw_to_rgb`). "malvar" adds the Laplacian
    of the colour that is there (Malvar, He and Cutler, ICASSP 2004). "edges" interpolates green along the
    direction of least change and then the colour differences (Hamilton and Adams, US patent 5,629,734).
    Raises ValueError for an unknown method, or when a side is below 4 pixels.
    """
    height, width = sites.shape[-2:]
    if min(height, width) < 4:
        raise ValueError(
            f"camera: a mosaic of {width} x {height} pixels is too small; expected 4 x 4 or more"
        )
    # Reflection by an even number of pixels, without a repeated border, continues the pattern of the mosaic.
    margin = 2
    padded = F.pad(sites, (margin, margin + width % 2, margin, margin + height % 2), mode="reflect")
    if method == "bilinear":
        from kornia.color.raw import CFA, raw_to_rgb

        # kornia names the pattern by its second row and column, as OpenCV does.
        cfa = {"rggb": CFA.BG, "grbg": CFA.GB, "bggr": CFA.RG, "gbrg": CFA.GR}[pattern]
        full = raw_to_rgb(padded, cfa)
    elif method == "malvar":
        full = _malvar(padded, pattern)
    elif method == "edges":
        full = _edges(padded, pattern)
    else:
        raise ValueError(
            f"camera: unknown demosaicing {method!r}; expected one of {', '.join(DEMOSAICS[1:])}"
        )
    return full[..., margin : margin + height, margin : margin + width]


# The three filters of the paper's figure 2, in eighths: green at red or blue; red or blue at a green site of
# its own row; red at blue and blue at red. The filter for a green site of the other row is the second one,
# transposed.
_GREEN = ((0, 0, -1, 0, 0), (0, 0, 2, 0, 0), (-1, 2, 4, 2, -1), (0, 0, 2, 0, 0), (0, 0, -1, 0, 0))
_ROW = ((0, 0, 0.5, 0, 0), (0, -1, 0, -1, 0), (-1, 4, 5, 4, -1), (0, -1, 0, -1, 0), (0, 0, 0.5, 0, 0))
_CROSS = ((0, 0, -1.5, 0, 0), (0, 2, 0, 2, 0), (-1.5, 0, 6, 0, -1.5), (0, 2, 0, 2, 0), (0, 0, -1.5, 0, 0))


def _malvar(sites: torch.Tensor, pattern: str) -> torch.Tensor:
    row = torch.tensor(_ROW)
    bank = torch.stack((torch.tensor(_GREEN), row, row.T, torch.tensor(_CROSS)))[:, None] / 8.0
    green, along, across, cross = F.conv2d(F.pad(sites, (2,) * 4, mode="reflect"), bank.to(sites)).split(1, 1)
    masks = bayer_masks(pattern, *sides(sites), sites.device).to(sites.dtype)
    red, is_green, blue = masks[0], masks[1], masks[2]
    # A row of the sensor that holds red holds no blue.
    red_row = red.amax(1, keepdim=True)
    own_red, own_blue = is_green * red_row, is_green * (1.0 - red_row)
    return torch.cat(
        (
            sites * red + along * own_red + across * own_blue + cross * blue,
            sites * is_green + green * (1.0 - is_green),
            sites * blue + along * own_blue + across * own_red + cross * red,
        ),
        1,
    )


def _edges(sites: torch.Tensor, pattern: str) -> torch.Tensor:
    masks = bayer_masks(pattern, *sides(sites), sites.device).to(sites.dtype)
    padded = F.pad(sites, (2,) * 4, mode="reflect")

    def at(dy: int, dx: int) -> torch.Tensor:
        return padded[..., 2 + dy : padded.shape[-2] - 2 + dy, 2 + dx : padded.shape[-1] - 2 + dx]

    curve_x = 2.0 * sites - at(0, -2) - at(0, 2)
    curve_y = 2.0 * sites - at(-2, 0) - at(2, 0)
    change_x = (at(0, -1) - at(0, 1)).abs() + curve_x.abs()
    change_y = (at(-1, 0) - at(1, 0)).abs() + curve_y.abs()
    green_x = (at(0, -1) + at(0, 1)) / 2.0 + curve_x / 4.0
    green_y = (at(-1, 0) + at(1, 0)) / 2.0 + curve_y / 4.0
    # The share moves smoothly from one direction to the other, so that rounding cannot flip a pixel.
    share = change_y / (change_x + change_y).clamp_min(1e-6)
    share = ((share - 0.5) * 4.0 + 0.5).clamp(0.0, 1.0)
    filled = share * green_x + (1.0 - share) * green_y
    green = sites * masks[1] + filled * (1.0 - masks[1])
    weights = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]).to(sites)[None, None]
    differences = torch.cat(((sites - green) * masks[0], (sites - green) * masks[2]), 1)
    flat = F.pad(differences, (1,) * 4, mode="reflect").flatten(0, 1)[:, None]
    spread = F.conv2d(flat, weights)[:, 0].view(differences.shape)
    return torch.cat((green + spread[:, :1], green, green + spread[:, 1:]), 1)
