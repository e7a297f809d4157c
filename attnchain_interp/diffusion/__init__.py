"""Attention of diffusion models: over a whole sampling, from a word to its region, as segments, and as guidance."""

from attnchain_interp.diffusion.diff_seg import aggregated_attention, diff_seg, ranked_anchors, uniform_anchors
from attnchain_interp.diffusion.pipelines import (
    HeadWeighting,
    Importance,
    PipelineAdapter,
    SamplingAttention,
    SequenceKind,
    capture_pipeline,
    denoise_image,
    important_tokens,
    self_attention_guidance,
)
from attnchain_interp.diffusion.word_maps import capture_image, concept_map, tokens_of_word, word_map

__all__ = [
    "aggregated_attention",
    "capture_image",
    "capture_pipeline",
    "concept_map",
    "denoise_image",
    "diff_seg",
    "SequenceKind",
    "HeadWeighting",
    "Importance",
    "important_tokens",
    "PipelineAdapter",
    "ranked_anchors",
    "SamplingAttention",
    "self_attention_guidance",
    "tokens_of_word",
    "uniform_anchors",
    "word_map",
]
