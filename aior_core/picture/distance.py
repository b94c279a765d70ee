"""A depth picture, as depth estimators give it, as distance."""

import torch


def distance_of(depth: torch.Tensor) -> torch.Tensor:
    """IMAGE `B H W C` of depth, bright is near -> `B 1 H W`, larger is farther. Raises ValueError for another shape."""
    if depth.ndim != 4 or depth.shape[-1] < 1:
        raise ValueError(f"a depth picture of shape {tuple(depth.shape)}; expected an IMAGE, B H W C")
    return 1.0 - depth[..., :3].float().mean(-1)[:, None]
