"""The nodes: each reads its inputs, calls one function of `aior_core` and returns."""

from .daem import DecodeDAEM
from .daff import ApplyDAFF, DAFFSampler
from .degrade import Degrade
from .loaders import LoadCompact, LoadRestorer
from .measure import Measure
from .prior import EncodePrior, PriorReport

NODES = [LoadCompact, LoadRestorer, EncodePrior, ApplyDAFF, DAFFSampler, DecodeDAEM, PriorReport, Degrade, Measure]
