"""A model of texts whose logit is a sum over its tokens, so every figure is known by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attnchain_evals import Trial

WEIGHTS = torch.tensor([9.0, 2.0, 1.0, 0.0, -1.0])


IDS = torch.arange(1, 6).expand(2, -1).clone()  # token t + 1 has weight WEIGHTS[t]; tokens 0 and 9 have none


WORDS = torch.tensor([[-1, 0, 1, 2, 3]] * 2)  # the first token is special


ORACLE = WEIGHTS.expand(2, -1)


class Sum(nn.Module):
    """Logits 0 and the sum of the weights of the tokens but the first, minus 1.5."""

    config = type("Config", (), {"pad_token_id": 0})

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        weights = torch.cat([torch.zeros(1), WEIGHTS, torch.zeros(4)])[input_ids]
        weights = weights if attention_mask is None else weights * attention_mask
        logit = (weights * (input_ids != 1)).sum(1) - 1.5
        return torch.stack([torch.zeros_like(logit), logit], 1)


class Next(Sum):
    """The same at the last of several positions, as a language model has it."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        logits = super().forward(input_ids, attention_mask)[:, None]
        return type("Output", (), {"logits": torch.cat([torch.randn_like(logits), logits], 1)})


def trial(model: nn.Module | None = None, words: Tensor | None = WORDS, mask: Tensor | None = None) -> Trial:
    return Trial((model or Sum()).eval(), IDS, torch.tensor([1, 1]), mask, words=words)


def p(*logits: float) -> list[float]:
    return torch.tensor(logits).sigmoid().tolist()
