"""Rows of real heads: stationary vectors and |λ₂| of every head of a trained backbone, against its own forward."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

import attnchain_interp as ac
from studies.speed.measurement import paired
from studies.speed.real_models import loaded
from studies.speed.rows import Bar, Figure, Row

PIXELS: Final = 224
PRODUCTS: Final = 20  # with each map, about as many as an Arnoldi process needs that stops at the right step


def photograph(pixels: int = PIXELS) -> Tensor:
    """The astronaut of scikit-image (1, channel, row, column), as DINOv2 reads it."""
    from skimage.data import astronaut

    image = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255
    image = torch.nn.functional.interpolate(image, (pixels, pixels), mode="bilinear", antialias=True)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    return (image - mean) / deviation


def of_dinov2() -> list[Figure]:
    """All maps of DINOv2-small, a forward of one image being 1."""
    model, image = loaded("dinov2-small", "AutoModel"), photograph()
    P = torch.cat([layer.maps for layer in ac.capture(model, image)]).flatten(0, 1)

    @torch.no_grad()
    def forward() -> Any:
        return model(image)

    def products() -> None:
        v = P.new_ones(len(P), 1, P.shape[-1])
        for _ in range(PRODUCTS):
            v = torch.bmm(v, P)

    alone = paired(lambda: ac.mixing(P), forward)
    certified = paired(lambda: ac.mixing(P).converged, forward, 3)
    found, true = ac.mixing(P), torch.linalg.eigvals(P.double()).abs().topk(2).values[:, 1]
    error = (found.second_eigenvalue - true).abs().masked_fill(~found.converged, 0)
    return [
        alone.times_as_long("time, forward = 1", 0.15),
        certified.times_as_long("time with the certificate of |λ₂|, forward = 1"),
        paired(products, forward).times_as_long(f"time of {PRODUCTS} products with each map, forward = 1"),
        Figure("error of λ₂ where it is certified", float(error.max()), bar=Bar(1e-4), note="against `eigvals` in float64"),
        Figure("share that is certified", float(found.converged.double().mean())),
    ]


ROWS: Final = [Row("real-maps", f"π and λ₂ of all 72 maps of DINOv2-small at {PIXELS} pixels, against its forward", of_dinov2)]
