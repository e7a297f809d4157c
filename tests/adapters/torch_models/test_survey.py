"""A forward that only looks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_adapters.torch_models.survey import sequences_given, survey


class Attend(nn.Module):
    """A helper without weights: (batch · head, token, width) to the same."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        logits = query @ key.mT
        return (logits if mask is None else logits.masked_fill(mask, -torch.inf)).softmax(-1) @ value


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend, self.fused = Attend(), nn.Identity()

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        heads = x.repeat_interleave(2, 0)
        x = x + self.attend(heads, heads + 0, heads * 2)[::2]
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = x + self.attend(x, other, other, causal)
        return x + F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]


def test_each_use_is_seen_with_its_module() -> None:
    model, x, other = Model(), torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    first, second, third = survey(model, lambda: model(x, other))
    assert [use.layer for use in (first, second, third)] == ["attend[0]", "attend[1]", "Model"]
    assert (first.shape, first.folded, first.causal, first.same, first.route) == ((6, 1, 4, 4), True, False, None, "softmax")
    assert (second.causal, second.same, second.padded) == (True, None, False), "two sequences of as many tokens"
    assert (third.shape, third.folded, third.route, third.reason) == ((3, 1, 4, 4), False, "sdpa", "")
    assert str(third) == "Model (Model, 4 queries × 4 keys)"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_keys_without_any_attention_are_padding() -> None:
    model, x = Attend(), torch.randn(2, 4, 8)
    absent = torch.tensor([[False] * 4, [False, False, True, True]])[:, None]
    (use,) = survey(model, lambda: model(x, x, x, absent))
    assert (use.padded, use.same) == (True, True)


def test_flags_and_masks_are_no_sequences() -> None:
    ids, mask, flag = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool), torch.tensor(1)
    assert [tensor is ids for tensor in sequences_given([ids, mask, flag, None, "text"])] == [True]
