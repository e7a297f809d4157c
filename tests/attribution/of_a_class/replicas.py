"""Dense replicas of the class-specific methods, written for one example and its list of layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# One example: maps and gradients (head, query, key) of each layer, and the start (token,)
Replica = Callable[[list[Tensor], list[Tensor], Tensor], Tensor]


def eye(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype)


def normalised(matrix: Tensor) -> Tensor:
    return matrix / matrix.sum(-1, keepdim=True)


def gradient_attention(maps: list[Tensor], gradients: list[Tensor], start: Tensor) -> Tensor:
    R = eye(maps[0])
    for A, G in zip(maps, gradients, strict=True):
        R = R + (G * A).clamp(min=0).mean(0) @ R
    return start @ R


def gradient_rollout(maps: list[Tensor], gradients: list[Tensor], start: Tensor) -> Tensor:
    R = eye(maps[0])
    for A, G in zip(maps, gradients, strict=True):
        R = normalised(((A * G).mean(0).clamp(min=0) + eye(A)) / 2) @ R
    return start @ R


def gmar(order: int) -> Replica:
    def replica(maps: list[Tensor], gradients: list[Tensor], start: Tensor) -> Tensor:
        R = eye(maps[0])
        for A, G in zip(maps, gradients, strict=True):
            norms = torch.stack([(g * (a > 0)).abs().pow(order).sum() ** (1 / order) for a, g in zip(A, G, strict=True)])
            fused = sum(weight * a for weight, a in zip(norms / norms.sum(), A, strict=True))
            R = normalised(fused + eye(A)) @ R
        return start @ R

    return replica


def chain(maps: list[Tensor], gradients: list[Tensor]) -> Tensor:
    W = sum((A * G.clamp(min=0)).mean(0) for A, G in zip(maps, gradients, strict=True))
    plain = torch.stack(maps).mean((0, 1))
    return torch.stack([w / w.sum() if w.sum() > 0 else row for w, row in zip(torch.as_tensor(W), plain, strict=True)])


def gradient_token_rank(maps: list[Tensor], gradients: list[Tensor], start: Tensor) -> Tensor:
    P = chain(maps, gradients)
    return torch.linalg.matrix_power(0.9 * P + 0.1 / len(P), 400)[0]


def gradient_multi_bounce(maps: list[Tensor], gradients: list[Tensor], start: Tensor) -> Tensor:
    P = chain(maps, gradients)
    return start @ P @ P @ P


def expected_visits(maps: list[Tensor], gradients: list[Tensor], start: Tensor) -> Tensor:
    W = torch.stack([(A * G).mean(0) for A, G in zip(maps, gradients, strict=True)]).sum(0).clamp(min=0)
    Q = 0.9 * W / W.sum(-1).max()
    return start @ torch.linalg.inv(eye(Q) - Q)


def one_hot(position: int, length: int) -> Tensor:
    return torch.eye(length, dtype=torch.float64)[position]
