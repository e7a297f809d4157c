"""Transformer attention read as a Markov chain.

A source turns inputs into an `AttentionStore`; a weighting turns a store into one Markov `Chain` per example; a
functional turns a chain into one score per token. `MultiBounce` is weighting → bounce; `TokenRank` is weighting →
stationary distribution; rollout is the same picture with a product over layers; row-select and column-sum are one bounce
from a one-hot and from the uniform start. The paper's methods and the baselines share this one path.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnchain_interp.capture.attention_block import AttentionBlock, LayerNorm
from attnchain_interp.capture.capture import Adapter, EncoderDecoderAdapter, Loaded, adapter_named, adapter_of, capture
from attnchain_interp.capture.collectors import Keeping, Reductions
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
from attnchain_interp.chain.absorption import expected_visits
from attnchain_interp.chain.bounce import bounce
from attnchain_interp.chain.chain import Chain, absorb, as_chain, damp, restrict, reverse
from attnchain_interp.chain.metastable import coarse_grained_stationary, metastable_states
from attnchain_interp.chain.mixing import Mixing, mixing
from attnchain_interp.chain.second_eigenvalue import second_eigenvalue
from attnchain_interp.chain.stationary_distribution import stationary
from attnchain_interp.diffusion.diff_seg import diff_seg, ranked_anchors, uniform_anchors
from attnchain_interp.diffusion.guidance_mask import important_tokens
from attnchain_interp.diffusion.multi_resolution import aggregated_attention
from attnchain_interp.diffusion.pipelines import (
    PipelineAdapter,
    SamplingAttention,
    capture_pipeline,
    denoise_image,
    self_attention_guidance,
)
from attnchain_interp.diffusion.prompt_words import tokens_of_word
from attnchain_interp.diffusion.word_maps import capture_image, concept_map, word_map
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.encoder_decoder import EncoderDecoderGradients, capture_encoder_decoder_gradients
from attnchain_interp.gradients.layer_gradients import capture_layer_gradients
from attnchain_interp.gradients.map_gradients import AttentionGradients, capture_gradients
from attnchain_interp.operators.factors import Factors
from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.head_weights import head_weights
from attnchain_interp.store.layers import LayerAttention, LayerSelection, select_layers
from attnchain_interp.store.tokens import Role, TokenLayout

if TYPE_CHECKING:
    from attnchain_interp.attribution import *  # noqa: F403
    from attnchain_interp.explorer import *  # noqa: F403
    from attnchain_interp.pictures import *  # noqa: F403

__all__ = [
    "Adapter",
    "AttentionBlock",
    "AttentionError",
    "AttentionGradients",
    "AttentionStore",
    "Bounces",
    "Chain",
    "ClassRows",
    "ColumnSums",
    "EncoderDecoderAdapter",
    "EncoderDecoderGradients",
    "Entropies",
    "Factors",
    "Keeping",
    "LayerAttention",
    "LayerNorm",
    "LayerProof",
    "LayerSelection",
    "Loaded",
    "Mixing",
    "PipelineAdapter",
    "Proof",
    "Reducer",
    "Reductions",
    "Role",
    "SamplingAttention",
    "SecondEigenvalues",
    "StationaryVectors",
    "TokenLayout",
    "absorb",
    "adapter_named",
    "adapter_of",
    "aggregated_attention",
    "as_chain",
    "bounce",
    "capture",
    "capture_contributions",
    "capture_encoder_decoder_gradients",
    "capture_gradients",
    "capture_image",
    "capture_layer_gradients",
    "capture_pipeline",
    "coarse_grained_stationary",
    "concept_map",
    "damp",
    "denoise_image",
    "diff_seg",
    "expected_visits",
    "head_weights",
    "important_tokens",
    "metastable_states",
    "mixing",
    "prove",
    "ranked_anchors",
    "restrict",
    "reverse",
    "second_eigenvalue",
    "select_layers",
    "self_attention_guidance",
    "stationary",
    "tokens_of_word",
    "uniform_anchors",
    "word_map",
]


_LAZY = ("attnchain_interp.explorer", "attnchain_interp.attribution", "attnchain_interp.pictures")


def __getattr__(name: str) -> Any:
    """The attribution methods and the pictures, on first use: Captum loads pyplot, pictures load matplotlib."""
    if not name.startswith("_"):
        for package in map(import_module, _LAZY):
            if name in package.__all__:
                return getattr(package, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for package in _LAZY for name in import_module(package).__all__)})
