"""Attention modules of many forms that record, on the side, the map that multiplied their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.nn import functional as F

WIDTH: Final = 8
HEADS: Final = 2


@dataclass(frozen=True)
class Seen:
    """A map (batch, head, query, key) that multiplied values.

    Attributes:
        module: the module that multiplied.
        maps: the map.
        sequence: whose queries attend to whose keys; "" for a pool.
        live: whether the model's output depends on it.
    """

    module: nn.Module
    maps: Tensor
    sequence: str
    live: bool


SEEN: Final[list[Seen]] = []  # of the last forward; a model empties it first


def note(module: nn.Module, maps: Callable[[], Tensor], sequence: str, live: bool) -> None:
    """Records a map. The recorder under test does not see how it is computed."""
    with DisableTorchFunction(), torch.no_grad():
        SEEN.append(Seen(module, maps().detach().float().clone(), sequence, live))


def exp_over_sum(x: Tensor) -> Tensor:
    weights = (x - x.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


def divided(x: Tensor, divide: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    weights = x.exp()
    return divide(weights, weights.sum(-1, keepdim=True))


def off_by_one(x: Tensor) -> Tensor:
    greatest = x.amax(-1, keepdim=True).clamp(min=0)
    weights = (x - greatest).exp()
    return weights / ((-greatest).exp() + weights.sum(-1, keepdim=True))


def mild(x: Tensor) -> Tensor:
    """Logits that choose no token alone: of one token a row, no numbers show a map."""
    return torch.where(x.isinf(), x, x.tanh() / 2)


def sparsemax(x: Tensor) -> Tensor:
    ordered = x.sort(-1, descending=True).values
    excess = (ordered.cumsum(-1) - 1) / torch.arange(1, x.shape[-1] + 1)
    return (x - excess.gather(-1, (ordered > excess).sum(-1, keepdim=True).clamp(min=1) - 1)).clamp(min=0)


def top_two(maps: Tensor) -> Tensor:
    maps = maps.masked_fill(maps < maps.topk(2).values[..., -1:], 0)
    return maps / maps.sum(-1, keepdim=True)


def in_place(maps: Tensor) -> Tensor:
    maps = maps.clone()
    maps[..., 0] *= 0.5
    maps /= maps.sum(-1, keepdim=True)
    return maps


def scattered(maps: Tensor) -> Tensor:
    kept, places = maps.topk(2)
    return torch.zeros_like(maps).scatter(-1, places, kept / kept.sum(-1, keepdim=True))


def redistributed(maps: Tensor) -> Tensor:
    first = maps[..., :1]
    return torch.cat([first / 2, maps[..., 1:] + first / 2 / (maps.shape[-1] - 1)], -1)


def head_off(maps: Tensor) -> Tensor:
    return maps * torch.tensor([1.0, 0.0]).view(1, HEADS, 1, 1)


def heads_mixed(maps: Tensor) -> Tensor:
    mixing = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    return torch.einsum("gh,bhij->bgij", mixing, maps)


# logits (batch, head, query, key) → probabilities
PROBABILITIES: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "softmax": lambda x: torch.softmax(x, -1),
    "method": lambda x: x.softmax(dim=-1),
    "module": lambda x: nn.Softmax(-1)(x),
    "float32": lambda x: F.softmax(x, dim=-1, dtype=torch.float32),
    "log-softmax": lambda x: F.log_softmax(x, -1).exp(),
    "exp/sum": exp_over_sum,
    "normalize": lambda x: F.normalize(x.exp(), p=1.0, dim=-1),
    "logsumexp": lambda x: torch.exp(x - torch.logsumexp(x, -1, keepdim=True)),
    "softmin": lambda x: F.softmin(-x, -1),
    "another axis": lambda x: x.mT.softmax(-2).mT,
    "heads last": lambda x: x.permute(0, 2, 3, 1).softmax(2).permute(0, 3, 1, 2),
    "operator": lambda x: torch.ops.aten._softmax.default(x, -1, False),
    "numpy": lambda x: torch.from_numpy(mild(x).detach().softmax(-1).numpy()),
    "in place": lambda x: divided(x, lambda weights, total: weights.div_(total)),
    "one more than the sum": lambda x: divided(x, lambda weights, total: weights / (1 + total)),
    "one more than the sum, less the greatest": off_by_one,
    "expanded sum": lambda x: divided(x, lambda weights, total: weights / total.expand_as(weights)),
    "sum by einsum": lambda x: divided(x, lambda weights, _: weights / torch.einsum("bhij->bhi", weights)[..., None]),
    "over one": lambda x: divided(x, lambda weights, total: weights * (1 / total)),
    "reciprocal": lambda x: divided(x, lambda weights, total: total.reciprocal() * weights),
    "sum without its axis": lambda x: (lambda weights: weights / weights.sum(-1).unsqueeze(-1))(x.exp()),
    "sparsemax": lambda x: sparsemax(mild(x)),
    "sink": lambda x: torch.cat([x, x.new_zeros(*x.shape[:-1], 1)], -1).softmax(-1)[..., :-1],
}

BY_NUMBERS: Final = ("numpy", "sparsemax")  # known by their rows, in products of two matrices and in "entry by entry" alone

EDITS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "none": lambda maps: maps,
    "dropout": lambda maps: F.dropout(maps, 0.1, training=False),
    "module": lambda maps: nn.Dropout(0.1).eval()(maps),
    "top two": top_two,
    "scattered": scattered,
    "in place": in_place,
    "redistributed": redistributed,
    "head off": head_off,
    "heads mixed": heads_mixed,
    "where": lambda maps: torch.where(maps > 0, maps, torch.zeros(())),
    "chunks": lambda maps: torch.cat(maps.chunk(2, 1), 1),
    "with itself": lambda maps: (maps + torch.ones_like(maps) / maps.shape[-1]) / 2,
    "double": lambda maps: maps.double().float(),
}


def bmm(maps: Tensor, v: Tensor) -> Tensor:
    return torch.bmm(maps.flatten(0, 1), v.flatten(0, 1)).unflatten(0, maps.shape[:2])


def heads_first(maps: Tensor, v: Tensor) -> Tensor:
    first = [tensor.transpose(0, 1).flatten(0, 1) for tensor in (maps, v)]
    return torch.bmm(*first).unflatten(0, maps.shape[:2][::-1]).transpose(0, 1)


def each_map(multiply: Callable[[Tensor, Tensor], Tensor], maps: Tensor, v: Tensor) -> Tensor:
    done = [multiply(x, y) for x, y in zip(maps.flatten(0, 1), v.flatten(0, 1), strict=True)]
    return torch.stack(done).unflatten(0, maps.shape[:2])


def key_by_key(maps: Tensor, v: Tensor) -> Tensor:
    out = torch.zeros(())
    for key in range(maps.shape[-1]):
        out = out + maps[..., key : key + 1] * v[:, :, key : key + 1]
    return out


def written_out(maps: Tensor, v: Tensor) -> Tensor:
    out = torch.empty(*maps.shape[:3], v.shape[-1])
    torch.matmul(maps, v, out=out)
    return out


def sixteen_bits(maps: Tensor, v: Tensor) -> Tensor:
    return (maps.to(torch.bfloat16) @ v.to(torch.bfloat16)).float()


# maps (batch, head, query, key) and values (batch, head, key, dim) → (batch, head, query, dim)
PRODUCTS: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "@": lambda maps, v: maps @ v,
    "matmul": torch.matmul,
    "method": lambda maps, v: maps.matmul(v),
    "keywords": lambda maps, v: torch.matmul(input=maps, other=v),
    "bfloat16": sixteen_bits,
    "bmm": bmm,
    "heads first": heads_first,
    "transposed": lambda maps, v: (v.mT @ maps.mT).mT,
    "einsum": lambda maps, v: torch.einsum("bhij,bhjd->bhid", maps, v),
    "einsum, values first": lambda maps, v: torch.einsum("b h j d, b h i j -> b h i d", v, maps),
    "einsum, heads last": lambda maps, v: torch.einsum(
        "bijh,bjhd->bihd", maps.permute(0, 2, 3, 1), v.transpose(1, 2)
    ).mT.mT.transpose(1, 2),
    "einsum, head first": lambda maps, v: torch.einsum("hbij,hbjd->bhid", maps.transpose(0, 1), v.transpose(0, 1)),
    "einsum, dots": lambda maps, v: torch.einsum("...ij,...jd->...id", maps, v),
    "einsum, a list": lambda maps, v: torch.einsum("bhij,bhjd->bhid", [maps, v]),
    "einsum, numbers": lambda maps, v: torch.einsum(maps, [0, 1, 2, 3], v, [0, 1, 3, 4], [0, 1, 2, 4]),
    "baddbmm": lambda maps, v: torch.baddbmm(torch.zeros(1, 1, 1), maps.flatten(0, 1), v.flatten(0, 1), beta=0).unflatten(
        0, maps.shape[:2]
    ),
    "entry by entry": lambda maps, v: (maps[..., None] * v[:, :, None]).sum(-2),
    "entry by entry, mT": lambda maps, v: (maps.unsqueeze(-1).mul(v.unsqueeze(2))).sum(dim=3),
    "linalg": torch.linalg.matmul,
    "multi_dot": lambda maps, v: each_map(lambda x, y: torch.linalg.multi_dot([x, y]), maps, v),
    "inner": lambda maps, v: each_map(lambda x, y: torch.inner(x, y.T), maps, v),
    "addbmm": lambda maps, v: each_map(lambda x, y: torch.addbmm(torch.zeros(()), x[None], y[None], beta=0), maps, v),
    "mv": lambda maps, v: torch.stack(
        [each_map(lambda x, y: torch.mv(x, y[:, d]), maps, v) for d in range(v.shape[-1])],  # noqa: B023
        -1,
    ),
    "vmap": lambda maps, v: torch.vmap(torch.mm)(maps.flatten(0, 1), v.flatten(0, 1)).unflatten(0, maps.shape[:2]),
    "entry by entry, values first": lambda maps, v: (v[:, :, None] * maps[..., None]).sum(-2),
    "vecdot": lambda maps, v: torch.linalg.vecdot(maps[..., None].expand(*maps.shape, v.shape[-1]), v[:, :, None], dim=-2),
    "sparse": lambda maps, v: each_map(lambda x, y: torch.sparse.mm(x.to_sparse(), y), maps, v),
    "entries of an einsum": lambda maps, v: torch.einsum("bhij,bhjd->bhijd", maps, v).sum(-2),
    "entries, keys last": lambda maps, v: (maps[..., None, :] * v.mT[:, :, None]).sum(-1),
    "mean of entries": lambda maps, v: (maps[..., None] * v[:, :, None]).mean(-2) * maps.shape[-1],
    "key by key": key_by_key,
    "each head": lambda maps, v: torch.stack([maps[:, h] @ v[:, h] for h in range(maps.shape[1])], 1),
    "each example": lambda maps, v: torch.stack([a @ b for a, b in zip(maps, v, strict=True)]),
    "each query": lambda maps, v: torch.stack([(maps[:, :, i, None] @ v)[:, :, 0] for i in range(maps.shape[2])], 2),
    "linear": lambda maps, v: torch.stack(
        [torch.stack([F.linear(x, y.T) for x, y in zip(a, b, strict=True)]) for a, b in zip(maps, v, strict=True)]
    ),
    "tensordot": lambda maps, v: torch.stack(
        [torch.stack([torch.tensordot(x, y, 1) for x, y in zip(a, b, strict=True)]) for a, b in zip(maps, v, strict=True)]
    ),
    "out": written_out,
}

# values (batch, head, key, dim) → values that may look like probabilities themselves
VALUES: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "as they are": lambda v: v,
    "softmax": lambda v: v.softmax(-1),
    "softmax over keys": lambda v: v.softmax(-2),
    "gated": lambda v: v.sigmoid() * v.softmax(-1),
    "half": lambda v: v.softmax(-1) / 2,
}

UNSEEN: Final[dict[str, tuple[str, ...]]] = {  # products → probabilities that they do not show
    "key by key": ("another axis", "heads last", *BY_NUMBERS),
    **dict.fromkeys(("vecdot", "sparse", "entries of an einsum", "entries, keys last", "mean of entries", "vmap"), BY_NUMBERS),
}

# q, k, v (batch, head, token, dim), float mask (query, key) → mixed values, by the fused function
FUSED: Final[dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]] = {
    "fused": lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
    "fused, bool": lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask == 0),
    "fused, 4-d": lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask.expand(len(q), 1, -1, -1)),
    "fused, heads": lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask.expand(len(q), HEADS, -1, -1)),
    "fused, groups": lambda q, k, v, mask: F.scaled_dot_product_attention(
        q, k[:, :1], v[:, :1], attn_mask=mask, enable_gqa=True
    ),
    "fused, folded": lambda q, k, v, mask: F.scaled_dot_product_attention(
        *(each.flatten(0, 1) for each in (q, k, v)), attn_mask=mask
    ).unflatten(0, q.shape[:2]),
    "fused, heads first": lambda q, k, v, mask: (
        F.scaled_dot_product_attention(*(each.transpose(0, 1).flatten(0, 1) for each in (q, k, v)), attn_mask=mask)
        .unflatten(0, q.shape[:2][::-1])
        .transpose(0, 1)
    ),
}


@dataclass(frozen=True)
class Form:
    """How an attention module computes. `kind` is "fused", "hand" or "module"; the rest are names of the tables."""

    kind: str
    fused: str = "fused"
    probabilities: str = "softmax"
    edit: str = "none"
    product: str = "@"
    helper: bool = False
    batch_first: bool = True
    state: bool = False
    values: str = "as they are"


class Mixing(nn.Module):
    """A helper without weights: queries, keys and values to mixed values."""

    def __init__(self, form: Form, sequence: str, live: bool) -> None:
        super().__init__()
        self.form, self.sequence, self.live, self.calls = form, sequence, live, 0

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return self.mix(q, k, v, mask)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        form = self.form
        if form.kind == "fused":
            grouped = k[:, :1] if "groups" in form.fused else k
            note(self, lambda: (q @ grouped.mT / sqrt(q.shape[-1]) + mask).softmax(-1), self.sequence, self.live)
            return FUSED[form.fused](q, k, v, mask)
        self.calls, v = self.calls + form.state, VALUES[form.values](v)
        logits = q @ k.transpose(-2, -1) / (sqrt(q.shape[-1]) * (1 + self.calls)) + mask
        maps = EDITS[form.edit](PROBABILITIES[form.probabilities](logits))
        rounded = form.probabilities in BY_NUMBERS and form.product == "bfloat16"  # the rows that are known are rounded
        note(self, lambda: maps.to(torch.bfloat16) if rounded else maps, self.sequence, self.live)
        return PRODUCTS[form.product](maps, v)


class Attention(Mixing):
    """A student's own attention."""

    def __init__(self, form: Form, sequence: str, live: bool) -> None:
        super().__init__(form, sequence, live)
        self.q, self.kv, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.helper = Mixing(form, sequence, live) if form.helper else None

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        q, k, v = (each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in (self.q(x), *self.kv(context).chunk(2, -1)))
        mixed = self.mix(q, k, v, mask) if self.helper is None else self.helper(q, k, v, mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class OfTorch(nn.Module):
    """`nn.MultiheadAttention`, with the sequence first or second."""

    def __init__(self, form: Form, sequence: str, live: bool) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, batch_first=form.batch_first)
        self.sequence, self.live = sequence, live

    def maps(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        wq, wk, _ = self.mha.in_proj_weight.chunk(3)
        q, k = (F.linear(each, w).unflatten(-1, (HEADS, -1)).transpose(1, 2) for each, w in ((x, wq), (context, wk)))
        return (q @ k.mT / sqrt(q.shape[-1]) + mask).softmax(-1)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        note(self.mha, lambda: self.maps(x, context, mask), self.sequence, self.live)
        given: list[Any] = [x, context, context]
        if x is context:
            given = [x, x, x]
        if self.mha.batch_first:
            return self.mha(*given, attn_mask=mask, need_weights=False)[0]
        first = x.transpose(0, 1)
        given = [first] * 3 if x is context else [first, context.transpose(0, 1), context.transpose(0, 1)]
        return self.mha(*given, attn_mask=mask)[0].transpose(0, 1)


def attention(form: Form, sequence: str, live: bool = True) -> nn.Module:
    return OfTorch(form, sequence, live) if form.kind == "module" else Attention(form, sequence, live)
