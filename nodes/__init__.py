"""The nodes. Each one reads its inputs, calls a function of `aior_core` and returns the result."""

from .daem import DecodeDAEM
from .daff import ApplyDAFF, DAFFSampler
from .degrade import Degrade
from .inspect import Inspect
from .loaders import LoadCompact, LoadRestorer, LoadUNet
from .measure import Measure
from .prior import EncodePrior, PriorFromBatch, PriorReport
from .steer import SteerPrior
from .train import SaveRestorer, TrainRestorer

WALK = [LoadCompact, LoadRestorer, EncodePrior, ApplyDAFF, DAFFSampler, DecodeDAEM]
LOOK = [LoadUNet, PriorFromBatch, PriorReport, SteerPrior, Inspect]
NODES = [*WALK, *LOOK, Degrade, Measure, TrainRestorer, SaveRestorer]
