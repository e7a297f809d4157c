"""From a model and its inputs to an `AttentionStore`: adapters, collectors, reducers, contributions, verification."""

from attnchain_interp.capture.adapter import (
    Adapter,
    CaptureRequest,
    Edit,
    EncoderDecoderAdapter,
    FamilyAdapter,
    LoadedModel,
    StackKind,
    WatchingAdapter,
    WrapperAdapter,
    adapter_named,
    adapters,
)
from attnchain_interp.capture.attention_block import AttentionBlock, LayerNorm
from attnchain_interp.capture.capture import capture
from attnchain_interp.capture.collector import BlockCollector, Collector, Expected, MakeNorms, OutputCollector, Shown
from attnchain_interp.capture.contribution_collector import ContributionCollector, DefaultCollector, Maps
from attnchain_interp.capture.contribution_sizes import Measure, contributions_of
from attnchain_interp.capture.direct_effects import DirectEffectCollector, capture_direct_effects, direct_effects
from attnchain_interp.capture.inside import MOVED_INPUTS
from attnchain_interp.capture.mean_collector import LayerMean
from attnchain_interp.capture.plain_run import plain_run
from attnchain_interp.capture.reading import Reading
from attnchain_interp.capture.recognition import adapter_of
from attnchain_interp.capture.reducers import (
    Bounces,
    ClassRows,
    ColumnSums,
    Entropies,
    Reducer,
    SecondEigenvalues,
    StationaryVectors,
)
from attnchain_interp.capture.reduction_collector import ReductionCollector, Reductions
from attnchain_interp.capture.rgb_image import rgb_image
from attnchain_interp.capture.source import check_settled, uncompiled
from attnchain_interp.capture.store_collector import StoreCollector
from attnchain_interp.capture.threads import of_this_thread, turn
from attnchain_interp.capture.verification import LayerProof, Proof, prove

__all__ = [
    "Adapter",
    "AttentionBlock",
    "BlockCollector",
    "Bounces",
    "CaptureRequest",
    "ClassRows",
    "Collector",
    "ColumnSums",
    "ContributionCollector",
    "DefaultCollector",
    "DirectEffectCollector",
    "Edit",
    "EncoderDecoderAdapter",
    "Entropies",
    "Expected",
    "FamilyAdapter",
    "LayerMean",
    "LayerNorm",
    "LayerProof",
    "LoadedModel",
    "MOVED_INPUTS",
    "MakeNorms",
    "Maps",
    "OutputCollector",
    "Measure",
    "Proof",
    "Reading",
    "Reducer",
    "ReductionCollector",
    "Reductions",
    "SecondEigenvalues",
    "Shown",
    "StackKind",
    "StationaryVectors",
    "StoreCollector",
    "WatchingAdapter",
    "WrapperAdapter",
    "adapter_named",
    "adapter_of",
    "adapters",
    "capture",
    "capture_direct_effects",
    "check_settled",
    "contributions_of",
    "direct_effects",
    "of_this_thread",
    "plain_run",
    "prove",
    "rgb_image",
    "turn",
    "uncompiled",
]
