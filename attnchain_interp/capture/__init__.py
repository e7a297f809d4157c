"""From a model and its inputs to an `AttentionStore`: adapters, collectors, reducers, contributions, verification."""

from attnchain_interp.capture.attention_block import AttentionBlock, LayerNorm
from attnchain_interp.capture.capture import (
    Adapter,
    EncoderDecoderAdapter,
    LoadedModel,
    adapter_named,
    adapter_of,
    adapters,
    capture,
    uncompiled,
)
from attnchain_interp.capture.collectors import Edit, Keeping, Reductions
from attnchain_interp.capture.contributions import capture_contributions
from attnchain_interp.capture.reducers import (
    Bounces,
    ClassRows,
    ColumnSums,
    Entropies,
    Reducer,
    SecondEigenvalues,
    StationaryVectors,
)
from attnchain_interp.capture.verification import LayerProof, Proof, prove

__all__ = [
    "Adapter",
    "adapter_named",
    "adapter_of",
    "adapters",
    "AttentionBlock",
    "Bounces",
    "capture",
    "capture_contributions",
    "ClassRows",
    "ColumnSums",
    "Edit",
    "EncoderDecoderAdapter",
    "Entropies",
    "Keeping",
    "LayerNorm",
    "LayerProof",
    "LoadedModel",
    "Proof",
    "prove",
    "Reducer",
    "Reductions",
    "SecondEigenvalues",
    "StationaryVectors",
    "uncompiled",
]
