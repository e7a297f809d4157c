"""From a model, its inputs and a target to the gradient of the target's score with respect to every attention map."""

from __future__ import annotations

from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook

from attnchain_interp.capturing import adapter_of, uncompiled
from attnchain_interp.chain import in_float32
from attnchain_interp.errors import AttentionError
from attnchain_interp.keeping import Keeping
from attnchain_interp.layers import LayerAttention, LayerSelection
from attnchain_interp.store import AttentionStore
from attnchain_interp.tokens import TokenLayout

if TYPE_CHECKING:
    from attnchain_interp.attribution.target import Target


@final
@dataclass(frozen=True)
class AttentionGradients:
    """The maps of a forward pass, and how the score of a target changes with each of their entries.

    `found[k]` is (maps, gradients) of a layer by number, and iteration goes from the first layer that runs to the last; both
    (batch, head, query, key) in float32 or better, rows of padding zero.

    Attributes:
        store: the maps.
        gradients: one tensor (batch, head, query, key) per layer of the store. Zero where the map is zero: such an entry is
            masked, and nothing that the model reads changes it.
    """

    store: AttentionStore
    gradients: list[Tensor]

    @property
    def tokens(self) -> TokenLayout:
        return self.store.tokens

    def __len__(self) -> int:
        return len(self.gradients)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        gradient = self.gradients[layer]
        inside = self.tokens.mask[:, None, :, None].to(gradient.device)
        return in_float32(self.store[layer].maps) * inside, in_float32(gradient) * inside

    def select(self, layers: LayerSelection) -> AttentionGradients:
        """Some of the layers, in the order in which they run.

        Raises:
            AttentionError: a layer that does not exist.
        """
        names = {layer.name for layer in self.store.select(layers)}
        chosen = [k for k, layer in enumerate(self.store) if layer.name in names]
        store = AttentionStore([self.store[k] for k in chosen], self.tokens, self.store.metadata)
        return AttentionGradients(store, [self.gradients[k] for k in chosen])


def capture_gradients(
    model: Any, *inputs: Any, target: Target = None, layers: LayerSelection = "all", **kwargs: Any
) -> AttentionGradients:
    """The maps of one forward pass and the gradients of a score with respect to them: one forward and one backward.

    The gradient is the whole derivative: an earlier map also acts through the queries and keys of later ones. Gradients are
    enabled here, whatever the caller disabled; fused attention is computed by its maps for this one forward. Parameters need
    not require gradients, get none in `.grad`, and the model is left as it was.

    Args:
        model: a model that an adapter recognises.
        inputs, layers, kwargs: as in `capture`.
        target: which number of each example's output is its score, as Captum selects it: an index of the class, or one per
            example (tensor or list); a tuple of indices, or one per example, for outputs with more axes; None where the
            output has one number per example. Or a function from the model's output to scores (batch,).

    Raises:
        AttentionError: as `capture`; attention from other queries than the keys' tokens; an output without logits, or a target
            that it does not hold; a model through which no gradient flows from the score to the maps.
    """
    from attnchain_interp.attribution.target import selected_score  # captum loads pyplot

    if torch.is_inference_mode_enabled():
        raise AttentionError("torch.inference_mode() is on, in which no gradient can be had; use torch.no_grad() around this.")
    model = uncompiled(model)
    adapter = adapter_of(model)
    if adapter is None:
        raise AttentionError(
            f"gradients need a model that an adapter recognises; got {type(model).__name__}. Of a callable that returns a"
            " store there is no score to differentiate: use a method that reads attention alone, such as TokenRank."
        )
    maps: dict[str, Tensor] = {}

    def in_graph(name: str, attention: Tensor) -> Tensor:
        maps[name] = attention if attention.requires_grad else attention.detach().requires_grad_()
        return maps[name]

    with torch.enable_grad(), _LastOutput() as last:
        store = adapter.capture(model, inputs, layers, Keeping("maps", edit=in_graph), **kwargs)
        assert isinstance(store, AttentionStore), "maps are kept"  # noqa: S101
        if store.queries is not None:
            raise AttentionError(
                'gradients are taken of self-attention; this is attention to other tokens. Choose kind="encoder" or "decoder".'
            )
        gradients = _gradients(selected_score(last.output, target, store.batch), maps)
    ordered = AttentionStore([store[name] for name in maps], store.tokens, store.metadata)  # as they ran
    return AttentionGradients(ordered, [_reachable(layer, gradients[layer.name]) for layer in ordered])


def _gradients(score: Tensor, maps: dict[str, Tensor]) -> dict[str, Tensor]:
    flows = score.requires_grad
    found = torch.autograd.grad(score.sum(), list(maps.values()), allow_unused=True) if flows else [None] * len(maps)
    gradients = {name: gradient for name, gradient in zip(maps, found, strict=True) if gradient is not None}
    cut = [name for name in maps if name not in gradients]
    if cut:
        raise AttentionError(
            f"no gradient flows from the score to {len(cut)} of {len(maps)} attention layers (the first: {cut[0]!r}): the"
            " model detaches what it computes (a no_grad inside its forward, quantised layers), or this output does not depend"
            " on them. Use the model in floating point, or choose layers=… that the output depends on."
        )
    return gradients


def _reachable(layer: LayerAttention, gradient: Tensor) -> Tensor:
    return gradient.masked_fill(layer.maps == 0, 0)


class _LastOutput:
    """While open, what the last module to finish in this thread has put out: in the end, the model."""

    output: Any = None

    def __enter__(self) -> _LastOutput:
        thread = get_ident()

        def remember(_: Any, __: Any, output: Any) -> None:
            if get_ident() == thread:
                self.output = output

        self._handle = register_module_forward_hook(remember)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
