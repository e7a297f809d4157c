"""Occlusions inside the model: patch tokens that are dropped, that no token may attend to, or that say "masked"."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_evals.perturbation.occlusion.occlusion import Occlusion, View
from attnchain_evals.perturbation.occlusion.text import unattended
from attnchain_interp import AttentionError

EMBEDDED: Final = ("patch_drop", "embeddings", "encoder.dropout")
"""Modules that hand on tokens with their positions: timm's ViT, those of transformers, torchvision's."""


class Tokens(NamedTuple):
    """The token sequence of a vision transformer.

    Attributes:
        site: the module whose output (batch, token, channel) holds all tokens, positions added.
        grid: (rows, columns) of patches; their tokens are the last of the sequence.
        prefix: the number of tokens before them: class, registers.
    """

    site: nn.Module
    grid: tuple[int, int]
    prefix: int


class TokenOcclusion(Occlusion):
    """Removes whole patch tokens; class token and registers stay."""

    space = "the model's tokens"

    @abstractmethod
    def run(self, model: nn.Module, tokens: Tokens, images: Tensor, removed: Tensor) -> Any:
        """The model's output for images with the patches (batch, patch) removed."""

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        tokens = tokens_of(model, inputs[:1])
        assert isinstance(model, nn.Module)  # noqa: S101 - tokens_of refuses others

        def view(examples: Tensor, removed: Tensor) -> Any:
            return self.run(model, tokens, inputs[examples], whole_patches(removed, tokens.grid))

        return view


@final
@dataclass(frozen=True)
class TokenDrop(TokenOcclusion):
    """Removed patches leave the sequence after position embeddings are added: the model never sees them.

    Nothing is put in their place, so nothing is out of distribution but the number of tokens. Only for models that learn
    nowhere else where a token is; this is checked: with all patch tokens shuffled behind the embedding the output must stay.

    Source: Jain et al., *Missingness Bias in Model Debugging*, ICLR 2022 (arXiv 2204.08945).
    """

    name = "token-drop"

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        _check_positions(model, tokens_of(model, inputs[:1]), inputs[:1])
        return super().over(model, inputs, first)

    def run(self, model: nn.Module, tokens: Tokens, images: Tensor, removed: Tensor) -> Tensor:
        counts = removed.sum(1)
        found: list[tuple[Tensor, Tensor]] = []
        for count in counts.unique().tolist():  # rows of one tensor have equally many tokens
            where = (counts == count).nonzero()[:, 0]
            kept = (~removed[where]).nonzero()[:, 1].view(len(where), -1) + tokens.prefix
            prefix = torch.arange(tokens.prefix, device=kept.device).expand(len(where), -1)
            places = torch.cat([prefix, kept], 1)
            with replaced(tokens.site, lambda output, places=places: _taken(output, places)):
                found.append((where, _logits(model(images[where]))))
        order = torch.cat([where for where, _ in found]).argsort()
        logits = torch.cat([logits for _, logits in found])[order]
        if bool(logits.isnan().any()) and bool(removed.all(1).any()):
            raise AttentionError(
                f"{type(model).__name__} has no output when all of its patches are dropped: it pools them. Use ends=False with"
                " fractions below 1, or another occlusion."
            )
        return logits


@final
@dataclass(frozen=True)
class AttentionMask(TokenOcclusion):
    """No token may attend to the removed patches of an image or tokens of a text, in any layer.

    They stay in the sequence: a head that averages over patches still reads them, so such models are refused. Where a class
    token is read, this is `TokenDrop` at a higher price, and also right for models whose layers know of positions.
    """

    name = "attention-mask"
    axes = frozenset({2, 4})

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        if inputs.ndim == 2:
            return unattended(model, inputs)
        tokens = tokens_of(model, inputs[:1])
        assert isinstance(model, nn.Module)  # noqa: S101 - tokens_of refuses others
        if not _mask_argument(model):
            raise AttentionError(
                f"{type(model).__name__}.forward takes neither attn_mask nor attention_mask; use TokenDrop or an occlusion of"
                " pixels."
            )
        _check_unread(model, tokens, inputs[:1])
        return super().over(model, inputs, first)

    def run(self, model: nn.Module, tokens: Tokens, images: Tensor, removed: Tensor) -> Any:
        return model(images, **_attention_mask(model, tokens, removed))


@final
@dataclass(frozen=True)
class MaskToken(TokenOcclusion):
    """The embedding of a removed patch becomes the model's own mask token, as in its pre-training; its position stays.

    For models with a trained `mask_token` beside their `patch_embeddings`, as DINOv2 of transformers has it.
    """

    name = "mask-token"

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        _mask_token(model)
        return super().over(model, inputs, first)

    def run(self, model: nn.Module, tokens: Tokens, images: Tensor, removed: Tensor) -> Any:
        embeddings = _mask_token(model)
        token: Tensor = embeddings.mask_token.view(1, 1, -1)  # pyright: ignore[reportCallIssue, reportAssignmentType]

        def masked(output: Tensor) -> Tensor:
            return torch.where(removed[:, :, None], token.to(output), output)

        with replaced(embeddings.get_submodule("patch_embeddings"), masked):
            return model(images)


@torch.no_grad()
def tokens_of(model: Callable[[Tensor], Any], image: Tensor) -> Tokens:
    """Where the tokens of a vision transformer are, read off one forward of an image (1, channel, height, width).

    Raises:
        AttentionError: no module of the model hands on one token per patch.
    """
    sites = (
        []
        if not isinstance(model, nn.Module)
        else [module for name, module in model.named_modules() if any(f".{name}".endswith(f".{end}") for end in EMBEDDED)]
    )
    seen: dict[str, tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output: seen.setdefault("patches", tuple(output.shape[2:])) and None)
        for module in (model.modules() if isinstance(model, nn.Module) else [])
        if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride and module.kernel_size != (1, 1)
    ]
    hooks += [
        site.register_forward_hook(
            lambda _, __, output: seen.setdefault("tokens", tuple(getattr(output, "shape", ()))) and None
        )
        for site in sites[:1]
    ]
    try:
        model(image)
    finally:
        for hook in hooks:
            hook.remove()
    rows, columns = seen.get("patches", (0, 0))
    tokens = seen.get("tokens", ())
    prefix = tokens[1] - rows * columns if len(tokens) == 3 else -1
    if not rows or prefix < 0:
        raise AttentionError(
            f"{type(model).__name__} does not show its patch tokens: none of {', '.join(EMBEDDED)} hands on (batch, token,"
            " channel) after a patch embedding by one convolution. Use an occlusion of pixels."
        )
    return Tokens(sites[0], (rows, columns), prefix)


def whole_patches(removed: Tensor, grid: tuple[int, int]) -> Tensor:
    """(batch, patch): which patches of the model are removed, of pixels (batch, height, width).

    Raises:
        AttentionError: a patch is removed in part.
    """
    shares = F.adaptive_avg_pool2d(removed[:, None].float(), grid).flatten(1)
    if bool(((shares > 1e-6) & (shares < 1 - 1e-6)).any()):
        raise AttentionError(
            f"the model has {grid[0]} × {grid[1]} patches, and features cover some of them in part; a token is removed whole"
            ' or not at all: rank patches of that grid (features="patch").'
        )
    return shares > 0.5


@contextmanager
def replaced(module: nn.Module, change: Callable[[Any], Tensor]) -> Iterator[None]:
    """While it lasts, the module's output is what `change` makes of it."""
    hook = module.register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        hook.remove()


def _taken(output: Tensor, places: Tensor) -> Tensor:
    return output.gather(1, places[:, :, None].expand(-1, -1, output.shape[-1]))


def _logits(output: Any) -> Tensor:
    return getattr(output, "logits", output)


@torch.no_grad()
def _check_positions(model: Any, tokens: Tokens, image: Tensor) -> None:
    """Shuffles the patch tokens: where nothing but the embedding knows positions, the output stays."""
    n = tokens.grid[0] * tokens.grid[1]
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(0)).to(image.device) + tokens.prefix
    places = torch.cat([torch.arange(tokens.prefix, device=image.device), shuffled])[None]
    clean = _logits(model(image))
    with replaced(tokens.site, lambda output: _taken(output, places)):
        moved = _logits(model(image))
    if not _close(clean, moved):
        raise AttentionError(
            f"the layers of {type(model).__name__} know where a token is (rotary or relative positions, windows): with"
            " shuffled tokens its output changes, so tokens cannot be dropped from it. Use AttentionMask or one of pixels."
        )


@torch.no_grad()
def _check_unread(model: nn.Module, tokens: Tokens, image: Tensor) -> None:
    """Where no token attends to the patches, the output must not depend on them."""
    removed = torch.ones(1, tokens.grid[0] * tokens.grid[1], dtype=torch.bool, device=image.device)
    mask = _attention_mask(model, tokens, removed)
    if tokens.prefix == 0 or not _close(_logits(model(image, **mask)), _logits(model(image.flip(-1) * 0.5, **mask))):
        raise AttentionError(
            f"the output of {type(model).__name__} reads patch tokens directly, so masking attention does not remove them; use"
            " TokenDrop."
        )


def _close(a: Tensor, b: Tensor) -> bool:
    scale = float(a.abs().max().clamp_min(1e-6))
    return bool(((a - b).abs().max() <= scale * max(1e-4, 8 * torch.finfo(a.dtype).eps)).item())


def _mask_argument(model: nn.Module) -> str | None:
    parameters = inspect.signature(model.forward).parameters
    return next((name for name in ("attn_mask", "attention_mask") if name in parameters), None)


def _attention_mask(model: nn.Module, tokens: Tokens, removed: Tensor) -> dict[str, Tensor]:
    seen = torch.cat([removed.new_ones(len(removed), tokens.prefix), ~removed], 1)
    if _mask_argument(model) == "attention_mask":  # transformers: (batch, token)
        return {"attention_mask": seen.long()}
    return {"attn_mask": seen[:, None, None, :].expand(-1, 1, seen.shape[1], -1)}  # timm: (batch, head, query, key)


def _mask_token(model: Any) -> nn.Module:
    for module in model.modules() if isinstance(model, nn.Module) else []:
        if isinstance(getattr(module, "mask_token", None), Tensor) and hasattr(module, "patch_embeddings"):
            return module
    raise AttentionError(f"{type(model).__name__} has no mask token beside its patch embeddings; use TokenDrop.")
