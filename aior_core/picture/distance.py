"""From the depth maps of monocular depth estimators to distance."""

from torch import Tensor


def distance_of(depth: Tensor) -> Tensor:
    """Turn a depth map, in which bright is near, into a distance map, in which large is far.

    Takes an IMAGE `B H W C`, 0..1, whose first three channels are averaged. Returns `B 1 H W`, 0..1, float32.

    Raises:
        ValueError: `depth` has another shape.
    """
    if depth.ndim != 4 or depth.shape[-1] < 1:
        raise ValueError(f"a depth picture of shape {tuple(depth.shape)}; expected an IMAGE, B H W C")
    return 1.0 - depth[..., :3].float().mean(-1)[:, None]
