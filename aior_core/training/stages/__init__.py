"""The stages of training, one file each; docs/method.md says what each is for.

`STAGES` are those that the loop trains step by step. The stage `tone` fits a curve, see `tone.train_tone`.
"""

from ..run_log import Logs
from .autoencoder import AUTOENCODER
from .base import ANCHOR, FixedCrops, Stage, StageRun, Step, Validate
from .denoiser import DENOISER
from .detail import DETAIL
from .fusion import FUSION, fusion_loss
from .joint import JOINT
from .keep import KEEP
from .maps import MAPS
from .polish import POLISH
from .repairing import repair_loss
from .restore import RESTORE
from .together import TOGETHER
from .tone import EXPORTS as TONE_EXPORTS

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (AUTOENCODER, DETAIL, RESTORE, DENOISER, TOGETHER, FUSION, POLISH, JOINT, KEEP, MAPS)
}
"""In the order in which the checkpoints of a folder are merged: later ones win."""

EXPORTS: dict[str, tuple[str, ...]] = {name: stage.exports for name, stage in STAGES.items()} | {
    "tone": TONE_EXPORTS
}
"""What is taken from a stage's checkpoint, named after the stage, unless `--take` says otherwise."""

__all__ = [
    "ANCHOR",
    "EXPORTS",
    "STAGES",
    "FixedCrops",
    "Logs",
    "Stage",
    "StageRun",
    "Step",
    "Validate",
    "fusion_loss",
    "repair_loss",
]
