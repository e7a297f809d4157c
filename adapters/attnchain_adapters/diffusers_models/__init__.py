"""diffusers: the attention of denoisers, in one forward (`attnchain_interp.capture`) or a whole sampling; guidance."""

from attnchain_adapters.diffusers_models.guidance import self_attention_guidance, token_mask
from attnchain_adapters.diffusers_models.pipelines import SamplingAttention, capture_pipeline
from attnchain_adapters.diffusers_models.prompts import tokens_of_word
from attnchain_adapters.diffusers_models.resolutions import aggregated_attention

__all__ = [
    "SamplingAttention",
    "aggregated_attention",
    "capture_pipeline",
    "self_attention_guidance",
    "token_mask",
    "tokens_of_word",
]
