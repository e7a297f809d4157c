"""diffusers: the attention of denoisers, of one forward (`attnchain_interp.capture`) or of a whole sampling."""

from attnchain_adapters.diffusers_models.pipelines import SamplingAttention, capture_pipeline
from attnchain_adapters.diffusers_models.prompts import tokens_of_word

__all__ = ["SamplingAttention", "capture_pipeline", "tokens_of_word"]
