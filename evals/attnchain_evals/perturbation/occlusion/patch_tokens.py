"""The patch tokens of a vision transformer: where they are, which are removed, and how their module's output is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from attnchain_evals.perturbation.patches import Patches, patches_on, pooled
from attnchain_interp import AttentionError
from attnchain_interp.capture import of_this_thread

EMBEDDED: Final = ("patch_drop", "embeddings", "encoder.dropout")
"""Modules that return tokens with their positions added: of timm's ViT, those of transformers, torchvision's."""


class PatchTokens(NamedTuple):
    """The token sequence of a vision transformer.

    Attributes:
        model: the vision transformer.
        site: the module whose output (batch, token, channel) holds all tokens, positions added.
        prefix: the number of tokens before the patches: class token, registers.
        patches: where the patches lie on images. Their tokens are the last of the sequence.
    """

    model: nn.Module
    site: nn.Module
    prefix: int
    patches: Patches


@torch.no_grad()
def patch_tokens(model: Callable[[Tensor], Any], image: Tensor) -> PatchTokens:
    """Finds the tokens of a vision transformer in one forward of an image (1, channel, height, width)."""
    refusal = AttentionError(
        f"{type(model).__name__} does not show its patch tokens: none of {', '.join(EMBEDDED)}"
        " returns (batch, token, channel) after a patch embedding by one convolution.",
        "Use an occlusion of pixels.",
    )
    if not isinstance(model, nn.Module):
        raise refusal
    sites = [module for name, module in model.named_modules() if any(f".{name}".endswith(f".{end}") for end in EMBEDDED)]
    seen: dict[str, tuple[int, ...]] = {}

    def note(what: str, first: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen.setdefault(what, tuple(getattr(output, "shape", ()))[first:])

        return hook

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride and module.kernel_size != (1, 1):
                hooks.enter_context(module.register_forward_hook(note("patches", 2)))
        for site in sites[:1]:
            hooks.enter_context(site.register_forward_hook(note("tokens", 0)))
        model(image)
    rows, columns = seen.get("patches", (0, 0))
    tokens = seen.get("tokens", ())
    prefix = tokens[1] - rows * columns if len(tokens) == 3 else -1
    if not rows or prefix < 0:
        raise refusal
    return PatchTokens(model, sites[0], prefix, patches_on(model, (rows, columns), image))


def whole_patches(removed: Tensor, patches: Patches) -> Tensor:
    """Returns which patches of the model are removed (batch, patch), given the removed pixels (batch, height, width)."""
    grid, shares = patches.grid, pooled(removed, patches.grid, patches).flatten(1)
    if bool(((shares > 1e-6) & (shares < 1 - 1e-6)).any()):
        raise AttentionError(
            f"the model has {grid[0]} × {grid[1]} patches, and features cover some of them in part; a token is removed as a"
            " whole.",
            'Rank patches of that grid: features="patch".',
        )
    return shares > 0.5


@contextmanager
def replaced(module: nn.Module, change: Callable[[Any], Tensor]) -> Iterator[None]:
    """Applies `change` to the output of the module while open, in this thread.

    Raises:
        AttentionError: the module did not run in this thread.
    """
    ran: list[None] = []

    def changed(_: nn.Module, __: Any, output: Any) -> Tensor:
        ran.append(None)
        return change(output)

    with module.register_forward_hook(of_this_thread(changed)):
        yield
    if not ran:
        raise AttentionError(
            f"the model ran no {type(module).__name__} in the thread that called it, so no token was removed.",
            "Pass the module that other threads run: model.module of nn.DataParallel.",
        )
