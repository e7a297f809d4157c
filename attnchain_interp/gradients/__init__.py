"""Gradients of a target's score with respect to attention maps: of whole models, of layers, of encoder–decoders."""

from attnchain_interp.gradients.encoder_decoder import EncoderDecoderGradients, capture_encoder_decoder_gradients
from attnchain_interp.gradients.gradient_collector import FactoredGradient
from attnchain_interp.gradients.layer_gradients import capture_layer_gradients
from attnchain_interp.gradients.logit_direction import logit_direction
from attnchain_interp.gradients.map_gradients import AttentionGradients, capture_gradients
from attnchain_interp.gradients.target import SeveralScores, logits_kept, logits_of

__all__ = [
    "AttentionGradients",
    "capture_encoder_decoder_gradients",
    "capture_gradients",
    "capture_layer_gradients",
    "EncoderDecoderGradients",
    "FactoredGradient",
    "logit_direction",
    "logits_kept",
    "logits_of",
    "SeveralScores",
]
