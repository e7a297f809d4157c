"""Relevance by gradients of attention: Chefer, Gur and Wolf's (also of encoder–decoders), and LeGrad layer by layer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution, start_row
from attnchain_interp.attribution.token_attribution import Scored
from attnchain_interp.checks import check_one_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients import (
    AttentionGradients,
    EncoderDecoderGradients,
    capture_encoder_decoder_gradients,
    capture_layer_gradients,
)
from attnchain_interp.gradients.encoder_decoder import is_encoder_decoder
from attnchain_interp.store import LayerSelection, LayerWeights, Start
from attnchain_interp.store.starts import CLASS_OR_UNIFORM


@final
class GradientAttention(AttentionGradientAttribution):
    """The row of a start token in R = (I + Ā_L) · · · (I + Ā_1), where Ā = mean_h ReLU(∇A ⊙ A).

    R ← R + Ā R from the first layer to the last: the relevance of each input token that reaches the start token, through
    attention that speaks for the target and through the residual connection, whose weight is one. The product of the layers is
    not built: the row is passed down. The start token's own score holds the 1 of the residual path. One forward and one
    backward.

    For an encoder–decoder, the score is the row of a decoder's token in R_de (relevance of the encoder's tokens) or in R_dd
    (relevance of the decoder's own tokens). From R_ee = I, R_dd = I, R_de = 0 each layer in its turn updates:

    - encoder: R_ee ← R_ee + Ā R_ee;
    - decoder: R_dd ← R_dd + Ā R_dd and R_de ← R_de + Ā R_de;
    - cross-attention: R_de ← R_de + R̄_ddᵀ Ā R̄_ee, where R̄ = I + (R − I with each row divided by its sum). A row of zeros,
      which no relevance has reached yet, stays a row of zeros.

    Args:
        forward_func: see `AttentionGradientAttribution`; or an encoder–decoder.
        start: see `MultiBounce`. The default means the class token, and "uniform" where there is none, also in a decoder,
            where that is more faithful than "last" (docs/text-defaults.md). For an encoder–decoder, a token of the decoder;
            the default means those that the target reads, evenly: the position of (position, token), or the end of the text
            where a class is read.
        layers: see `AttentionGradientAttribution`. An encoder–decoder needs "all".
        sequence: for an encoder–decoder, whose tokens are scored. `attribute` gives scores the shape of the inputs, so the
            decoder's tokens need output="tokens".

    Raises:
        AttentionError: at once, for another sequence; on attribution, for chosen layers of an encoder–decoder.

    Source: Chefer, Gur & Wolf, *Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers*, ICCV 2021, equations 5 to 11 (equation 11 adds nothing for an encoder–decoder: no relevance leads from the
    encoder to the decoder).
    """

    has_start: ClassVar[bool] = True
    allows_padding: ClassVar[bool] = True

    def __init__(
        self,
        forward_func: Any = None,
        *,
        start: Start | None = CLASS_OR_UNIFORM,
        layers: LayerSelection = "all",
        sequence: Literal["encoder", "decoder"] = "encoder",
    ) -> None:
        check_one_of("sequence", sequence, ("encoder", "decoder"))
        super().__init__(forward_func, layers=layers)
        self.start, self.sequence = start, sequence

    def relevance(self, found: AttentionGradients) -> Tensor:
        row = start_row(found, self.start)[:, None]
        for layer in reversed(range(len(found))):
            gained = torch.zeros_like(row)
            for rows, maps, gradients in found.tiles(layer):
                gained[..., : maps.shape[-1]] += row[..., rows] @ _evidence(maps, gradients)
            row = row + gained
        return row[:, 0]

    @torch.no_grad()
    def score(self, found: AttentionGradients | EncoderDecoderGradients) -> Tensor:
        """Returns one score per token (batch, token), from `capture_gradients` or `capture_encoder_decoder_gradients`."""
        if not isinstance(found, EncoderDecoderGradients):
            return super().score(found)
        if self.layers != "all":
            raise AttentionError(f"layers={self.layers!r}; of an encoder–decoder every layer is read.", 'Pass layers="all".')
        start, decoder = self.start, found.decoder.context()
        if isinstance(start, str) and start == CLASS_OR_UNIFORM:
            mask = decoder.tokens.mask
            read = decoder.read.to(mask.device) & mask
            read = torch.where(read.any(1, keepdim=True), read, mask)
            start = read / read.sum(1, keepdim=True)
        among_decoder, to_encoder = encoder_decoder_relevance(found)
        relevance = to_encoder if self.sequence == "encoder" else among_decoder
        row = start_row(decoder, start).to(relevance)
        return (row[:, None] @ relevance)[:, 0]

    def scored(self, call: Call, with_residual: bool) -> Scored:
        if not is_encoder_decoder(self.forward_func):
            return super().scored(call, with_residual)
        positional, named = call.arguments(self.forward_func)
        found = capture_encoder_decoder_gradients(self.forward_func, *positional, target=call.target, **named)
        store = (found.encoder if self.sequence == "encoder" else found.decoder).store
        return Scored(self.score(found), store.tokens, metadata=store.metadata)


@final
class LeGrad(AttentionGradientAttribution):
    """ReLU(∂s_l/∂A_l), averaged over heads, queries and layers, for the patches of an image, else for every token.

    s_l is the target's score of the tokens of layer l: the model's head reads them in place of the last layer's tokens. Only
    the gradient of the map enters, not the map itself. One forward, and for each layer the model's head and one block
    backward. The paper scales the result to [0, 1]; here pictures do that.

    Args:
        forward_func, layers, layer_weights: see `AttentionGradientAttribution`.

    Source: Bousselham, Boggust, Chaybouti, Strobelt & Kuehne, *LeGrad: An Explainability Method for Vision Transformers via
    Feature Formation Sensitivity*, ICCV 2025.
    """

    allows_padding: ClassVar[bool] = True

    def __init__(
        self, forward_func: Any = None, *, layers: LayerSelection = "all", layer_weights: LayerWeights = "mean"
    ) -> None:
        super().__init__(forward_func, layers=layers, layer_weights=layer_weights)

    def captured(self, call: Call, layers: LayerSelection) -> AttentionGradients:
        positional, named = call.arguments(self.forward_func)
        return capture_layer_gradients(self.forward_func, *positional, target=call.target, layers=layers, **named)

    def relevance(self, found: AttentionGradients) -> Tensor:
        by_layer = torch.stack([gradients.relu().mean(1).sum(1) for _, gradients in found], 1)
        received = (by_layer * self.weights(found, None)[..., None].to(by_layer)).sum(1)
        queries = found.tokens.mask.sum(1, keepdim=True).to(received.device)
        return received / queries * found.tokens.select(None).to(received.device)


def encoder_decoder_relevance(found: EncoderDecoderGradients) -> tuple[Tensor, Tensor]:
    """Returns R_dd (batch, decoder token, decoder token) and R_de (batch, decoder token, encoder token)."""
    maps, _ = found.cross[0]
    ee, dd = (torch.eye(size, dtype=maps.dtype, device=maps.device) for size in (maps.shape[-1], maps.shape[-2]))
    de = maps.new_zeros(())
    for kind, maps, gradients in found:
        evidence = _evidence(maps, gradients)
        if kind == "encoder":
            ee = ee + evidence @ ee
        elif kind == "cross":
            de = de + _normalised(dd).mT @ evidence @ _normalised(ee)
        else:
            dd = dd + evidence @ dd
            de = de + evidence @ de if de.ndim else de
    return dd, de


def _evidence(maps: Tensor, gradients: Tensor) -> Tensor:
    return (gradients * maps).relu_().mean(1)


def _normalised(relevance: Tensor) -> Tensor:
    """Returns I + (R − I with each row divided by its sum)."""
    identity = torch.eye(relevance.shape[-1], dtype=relevance.dtype, device=relevance.device)
    gained = relevance - identity
    sums = gained.sum(-1, keepdim=True)
    return identity + gained / torch.where(sums > 0, sums, 1)


@final
class GradELLM(AttentionGradientAttribution):
    """Σ_l ReLU(Σ_c w_c v_jc) λ_j: w is the gradient at the mixed values of the start token, v_j are the values of token j.

    Channels c are those of all heads, before the output projection. λ_j = Φ(q · k_j), where q is the query of the start token
    and k_j a key, over all heads. Φ brings the numbers of a row to 0 … 1 (the least is 0, the greatest is 1), which is looser
    than a softmax. Both are computed from maps: Σ_c w_c v_jc is Σ_h ∂s/∂A^h_j of the start token's row, and q · k_j is
    Σ_h log A^h_j up to a constant, which Φ takes away. One forward and one backward.

    Args:
        forward_func: see `AttentionGradientAttribution`.
        start: see `MultiBounce`. In `attribute_text` the position that predicts the output token.
        layers: see `AttentionGradientAttribution`. The paper sums the last ones.

    Source: Huang & Chan, *Grad-ELLM: Gradient-based Explanations for Decoder-only LLMs*, 2026, after Zhao et al.,
    *Gradient-based Visual Explanation for Transformer-based CLIP*, ICML 2024. Queries and keys are those that attention
    multiplies, with rotary positions.
    """

    has_start: ClassVar[bool] = True
    allows_padding: ClassVar[bool] = True

    def __init__(self, forward_func: Any = None, *, start: Start | None = None, layers: LayerSelection = "all") -> None:
        super().__init__(forward_func, layers=layers)
        self.start = start

    def relevance(self, found: AttentionGradients) -> Tensor:
        start = start_row(found, self.start)[:, None, None]
        total = found[0][0].new_zeros(())
        for maps, gradients in found:
            row, raised = ((start.to(part) @ part)[:, :, 0] for part in (maps, gradients))
            total = total + raised.sum(1).relu() * _loosened(row)
        return total


def _loosened(row: Tensor) -> Tensor:
    """Returns the logits of a row of maps (batch, head, token), summed over heads and brought to 0 … 1: (batch, token)."""
    seen = (row > 0).any(1)
    logits = row.clamp_min(torch.finfo(row.dtype).tiny).log().sum(1)
    least = logits.masked_fill(~seen, torch.inf).amin(-1, keepdim=True)
    span = logits.masked_fill(~seen, -torch.inf).amax(-1, keepdim=True) - least
    return ((logits - least) / torch.where(span > 0, span, 1)).masked_fill(~seen, 0)
