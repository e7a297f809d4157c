"""Occlusions inside a vision transformer: patch tokens are dropped, hidden from all tokens, or set to the mask token."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from attnchain_evals.perturbation.occlusion.patch_tokens import PatchTokens, patch_tokens, replaced, whole_patches
from attnchain_evals.perturbation.occlusion.replacements import Occlusion, View
from attnchain_evals.perturbation.occlusion.text import by_count, unattended
from attnchain_interp import AttentionError
from attnchain_interp.gradients import logits_of


class TokenOcclusion(Occlusion):
    """Removes whole patch tokens. Class token and registers stay."""

    space = "the model's tokens"

    @abstractmethod
    def run(self, tokens: PatchTokens, images: Tensor, removed: Tensor) -> Any:
        """Returns the model's output for images without the removed patches (batch, patch)."""

    def check(self, tokens: PatchTokens, image: Tensor) -> None:
        """Raises an `AttentionError` if the model does not allow this occlusion."""

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        tokens = patch_tokens(model, inputs[:1])
        self.check(tokens, inputs[:1])

        def view(examples: Tensor, removed: Tensor) -> Any:
            return self.run(tokens, inputs[examples], whole_patches(removed, tokens.patches))

        return view


@final
@dataclass(frozen=True)
class TokenDrop(TokenOcclusion):
    """Drops the removed patches from the sequence, after position embeddings are added: the model never sees them.

    Nothing takes their place, so only the number of tokens is out of distribution. The layers of the model must not know where
    a token is. This is checked: when the patch tokens are shuffled behind the embedding, the output must stay.

    Source: Jain et al., *Missingness Bias in Model Debugging*, ICLR 2022 (arXiv 2204.08945).
    """

    name = "token-drop"

    @torch.no_grad()
    def check(self, tokens: PatchTokens, image: Tensor) -> None:
        n = tokens.patches.grid[0] * tokens.patches.grid[1]
        shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(0), device="cpu").to(image.device) + tokens.prefix
        places = torch.cat([torch.arange(tokens.prefix, device=image.device), shuffled])[None]
        clean = logits_of(tokens.model(image))
        with replaced(tokens.site, lambda output: _taken(output, places)):
            moved = logits_of(tokens.model(image))
        if not _close(clean, moved):
            raise AttentionError(
                f"the layers of {type(tokens.model).__name__} know where a token is (rotary or relative positions, windows):"
                " its output changes with shuffled tokens, so tokens cannot be dropped.",
                "Use AttentionMask or an occlusion of pixels.",
            )

    def run(self, tokens: PatchTokens, images: Tensor, removed: Tensor) -> Tensor:
        def without(where: Tensor) -> Tensor:
            kept = (~removed[where]).nonzero()[:, 1].view(len(where), -1) + tokens.prefix
            prefix = torch.arange(tokens.prefix, device=kept.device).expand(len(where), -1)
            places = torch.cat([prefix, kept], 1)
            with replaced(tokens.site, lambda output: _taken(output, places)):
                return logits_of(tokens.model(images[where]))

        logits = by_count(removed.sum(1), without)
        if bool(logits.isnan().any()) and bool(removed.all(1).any()):
            raise AttentionError(
                f"{type(tokens.model).__name__} has no output when all of its patches are dropped: it pools them.",
                "Use ends=False with fractions below 1, or another occlusion.",
            )
        return logits


@final
@dataclass(frozen=True)
class AttentionMask(TokenOcclusion):
    """Hides the removed patches of an image or tokens of a text: no token may attend to them, in any layer.

    They stay in the sequence. A head that averages over patches still reads them, so such models are refused. For a model that
    reads its class token this equals `TokenDrop` at a higher cost; it is also right for layers that know positions.
    """

    name = "attention-mask"
    axes = frozenset({2, 4})

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        return unattended(model, inputs) if inputs.ndim == 2 else super().over(model, inputs, first)

    @torch.no_grad()
    def check(self, tokens: PatchTokens, image: Tensor) -> None:
        model = tokens.model
        if not _mask_argument(model):
            raise AttentionError(
                f"{type(model).__name__}.forward takes neither attn_mask nor attention_mask.",
                "Use TokenDrop or an occlusion of pixels.",
            )
        removed = torch.ones(1, tokens.patches.grid[0] * tokens.patches.grid[1], dtype=torch.bool, device=image.device)
        mask = _attention_mask(tokens, removed)
        if tokens.prefix == 0 or not _close(logits_of(model(image, **mask)), logits_of(model(image.flip(-1) * 0.5, **mask))):
            raise AttentionError(
                f"the output of {type(model).__name__} reads patch tokens directly, so hiding them does not remove them.",
                "Use TokenDrop.",
            )

    def run(self, tokens: PatchTokens, images: Tensor, removed: Tensor) -> Any:
        return tokens.model(images, **_attention_mask(tokens, removed))


@final
@dataclass(frozen=True)
class MaskToken(TokenOcclusion):
    """Replaces the embedding of a removed patch by the mask token of the model's pre-training. Its position stays.

    The model needs a trained `mask_token` beside its `patch_embeddings`, such as DINOv2 of transformers.
    """

    name = "mask-token"

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        _mask_token(model)
        return super().over(model, inputs, first)

    def run(self, tokens: PatchTokens, images: Tensor, removed: Tensor) -> Any:
        embeddings = _mask_token(tokens.model)
        token: Tensor = embeddings.mask_token.view(1, 1, -1)  # pyright: ignore[reportCallIssue, reportAssignmentType]

        def masked(output: Tensor) -> Tensor:
            return torch.where(removed[:, :, None], token.to(output), output)

        with replaced(embeddings.get_submodule("patch_embeddings"), masked):
            return tokens.model(images)


def _taken(output: Tensor, places: Tensor) -> Tensor:
    return output.gather(1, places[:, :, None].expand(-1, -1, output.shape[-1]))


def _close(a: Tensor, b: Tensor) -> bool:
    scale = float(a.abs().max().clamp_min(1e-6))
    return bool(((a - b).abs().max() <= scale * max(1e-4, 8 * torch.finfo(a.dtype).eps)).item())


def _mask_argument(model: nn.Module) -> str | None:
    parameters = inspect.signature(model.forward).parameters
    return next((name for name in ("attn_mask", "attention_mask") if name in parameters), None)


def _attention_mask(tokens: PatchTokens, removed: Tensor) -> dict[str, Tensor]:
    seen = torch.cat([removed.new_ones(len(removed), tokens.prefix), ~removed], 1)
    if _mask_argument(tokens.model) == "attention_mask":  # transformers: (batch, token)
        return {"attention_mask": seen.long()}
    return {"attn_mask": seen[:, None, None, :].expand(-1, 1, seen.shape[1], -1)}  # timm: (batch, head, query, key)


def _mask_token(model: Any) -> nn.Module:
    for module in model.modules() if isinstance(model, nn.Module) else []:
        if isinstance(getattr(module, "mask_token", None), Tensor) and hasattr(module, "patch_embeddings"):
            return module
    raise AttentionError(f"{type(model).__name__} has no mask token beside its patch embeddings.", "Use TokenDrop.")
