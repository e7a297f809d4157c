"""Random models: stacks, towers, branches and encoder–decoders of the modules of `random_attention`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import attnchain_interp as ac

from .random_attention import (
    BY_NUMBERS,
    EDITS,
    FUSED,
    HEADS,
    PROBABILITIES,
    PRODUCTS,
    SEEN,
    UNSEEN,
    VALUES,
    WIDTH,
    Form,
    attention,
    note,
)

EXTRAS: Final = ("none", "router", "soft router", "gate", "unused", "dead", "pool", "query pool", "sum pool", "channels")
SHAPES: Final = ("stack", "shared", "towers", "branches", "encoder-decoder")
IMAGE: Final = (4, 6)  # six patches


@dataclass(frozen=True)
class Recipe:
    """A model. `blocks` are the forms of the first sequence, `others` those of the second."""

    shape: str
    blocks: tuple[Form, ...]
    others: tuple[Form, ...]
    given: str
    lengths: tuple[int, int]
    batch: int
    causal: bool
    extras: tuple[str, ...]
    wrapped: bool
    names: tuple[str, str]
    seed: int


class Block(nn.Module):
    def __init__(self, form: Form, sequence: str, causal: bool, cross: Form | None = None, extra: str = "none") -> None:
        super().__init__()
        self.norm, self.attn, self.causal = nn.LayerNorm(WIDTH), attention(form, sequence), causal
        self.read = None if cross is None else attention(cross, "b→a")
        self.mlp = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU())
        self.extra = extra
        if extra in ("unused", "dead"):
            self.side = attention(form, sequence, live=False)
        if "router" in extra:
            self.route, self.experts = nn.Linear(WIDTH, 3), nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        if extra in ("gate", "channels"):
            self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1) if self.causal else torch.zeros(length, length)
        y = self.norm(x)
        if self.extra == "dead":
            self.side(y, y, mask)
        x = x + self.attn(y, y, mask)
        if self.read is not None and context is not None:
            x = x + self.read(x, context, torch.zeros(length, context.shape[1]))
        return x + self.mixed(x)

    def mixed(self, x: Tensor) -> Tensor:
        if self.extra == "soft router":
            done = torch.stack([each(x) for each in self.experts], 2)
            return torch.einsum("ble,blew->blw", self.route(x).softmax(-1), done)
        if self.extra == "router":
            weights, chosen = self.route(x).softmax(-1).topk(2, -1)
            done = torch.stack([each(x) for each in self.experts], 2)
            done = done.gather(2, chosen[..., None].expand(*chosen.shape, WIDTH))
            return ((weights / weights.sum(-1, keepdim=True))[..., None] * done).sum(2)
        if self.extra == "gate":
            return self.mlp(x) * self.gate(x).softmax(-1)
        if self.extra == "channels":
            return self.gate(self.gate(x).softmax(-1) * x)
        return self.mlp(x)


class Pool(nn.Module):
    """One vector of each sequence."""

    def __init__(self, extra: str) -> None:
        super().__init__()
        self.score, self.extra = nn.Linear(WIDTH, 1), extra

    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x)
        note(self, lambda: weights.softmax(1).mT[:, None], "", True)
        if self.extra == "pool":
            return (weights.softmax(1).mT @ x)[:, 0]
        if self.extra == "query pool":
            return torch.einsum("bl,bld->bd", weights[..., 0].softmax(-1), x)
        return (weights.softmax(1) * x).sum(1)


class Branch(nn.Module):
    """Blocks, one after another, under a name of their own."""

    def __init__(self, blocks: list[Block], name: str, shared: bool) -> None:
        super().__init__()
        self.add_module(name, nn.ModuleList(blocks))
        self.name, self.times = name, 2 if shared else 1

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        for _ in range(self.times):
            for block in getattr(self, self.name):
                x = block(x, context)
        return x


class RandomModel(nn.Module):
    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        torch.default_generator.manual_seed(recipe.seed)  # `torch.manual_seed` walks the stack for a GPU that may come
        self.recipe, (first, second) = recipe, recipe.names
        causal, extras, shape = recipe.causal, recipe.extras, recipe.shape
        double = shape == "encoder-decoder"
        blocks = [Block(form, "a", causal and not double, extra=e) for form, e in zip(recipe.blocks, extras, strict=True)]
        self.add_module(first, Branch(blocks, "layers", shape == "shared"))
        if shape in ("towers", "branches", "encoder-decoder"):
            cross = recipe.others[::-1] if double else [None] * len(recipe.others)
            others = [Block(form, "b", double and causal, read) for form, read in zip(recipe.others, cross, strict=True)]
            self.add_module(second, Branch(others, "layers", False))
        self.ids = nn.Embedding(10, WIDTH)
        self.patches = nn.Conv2d(1, WIDTH, 2, 2)
        self.pool = Pool(recipe.extras[-1]) if "pool" in recipe.extras[-1] else None
        for name, parameter in self.named_parameters():
            if name.endswith("weight") and parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.6)

    def tokens(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return self.ids(x)
        return self.patches(x).flatten(2).mT if x.ndim == 4 else x

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        SEEN.clear()
        name, other = self.recipe.names
        x = self.tokens(first)
        a = getattr(self, name)(x)
        pooled = a.mean(1) if self.pool is None else self.pool(a)
        if not hasattr(self, other):
            return pooled
        if self.recipe.shape == "branches":
            return pooled * getattr(self, other)(1 - x).mean(1)
        assert second is not None
        context = a if self.recipe.shape == "encoder-decoder" else None
        return pooled * getattr(self, other)(self.tokens(second), context).mean(1)


class Wrapper(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner, self.head = model, nn.Linear(WIDTH, 3)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.head(self.inner(*inputs))


def shown(form: Form) -> bool:
    """Whether a product shows its probabilities. Of a head that is off, no numbers do."""
    off = form.probabilities in BY_NUMBERS and form.edit == "head off"
    return not off and form.probabilities not in UNSEEN.get(form.product, ())


forms = st.builds(
    Form,
    st.sampled_from(["fused", "hand", "hand", "module"]),
    st.sampled_from(list(FUSED)),
    st.sampled_from(list(PROBABILITIES)),
    st.sampled_from(["none"] * 8 + list(EDITS)),
    st.sampled_from(["@"] * 24 + list(PRODUCTS)),
    st.booleans(),
    st.booleans(),
    st.sampled_from([False] * 11 + [True]),
    st.sampled_from(["as they are"] * 12 + list(VALUES)),
).filter(shown)
recipes = st.builds(
    Recipe,
    st.sampled_from(["stack", *SHAPES]),
    st.lists(forms, min_size=1, max_size=3).map(tuple),
    st.lists(forms, min_size=1, max_size=2).map(tuple),
    st.sampled_from(["ids", "floats", "image"]),
    st.tuples(st.integers(3, 6), st.integers(3, 6)),
    st.integers(1, 3),
    st.booleans(),
    st.lists(st.sampled_from(["none"] * 12 + list(EXTRAS)), min_size=3, max_size=3).map(tuple),
    st.booleans(),
    st.sampled_from([("trunk", "head"), ("encoder", "decoder"), ("visual", "text"), ("blocks", "more")]),
    st.integers(0, 3),
).map(lambda recipe: replace(recipe, extras=recipe.extras[-len(recipe.blocks) :]))


def built(recipe: Recipe) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Returns a model and its inputs."""
    model = RandomModel(recipe)
    inputs = [given(recipe, recipe.given, recipe.lengths[0])]
    if recipe.shape in ("towers", "encoder-decoder"):
        inputs.append(given(recipe, "floats" if recipe.given == "floats" else "ids", recipe.lengths[1]))
    return (Wrapper(model) if recipe.wrapped else model).eval(), tuple(inputs)


def given(recipe: Recipe, kind: str, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(recipe.seed + length)
    if kind == "ids":
        return torch.randint(0, 10, (recipe.batch, length), generator=generator)
    size = (length, WIDTH) if kind == "floats" else (1, *IMAGE)
    return torch.randn(recipe.batch, *size, generator=generator)


def readings(recipe: Recipe) -> st.SearchStrategy[ac.Reading]:
    """What a user may say: nothing, the layout, the kind, the tower, or some of them."""
    image = ac.TokenLayout.image(grid=(IMAGE[0] // 2, IMAGE[1] // 2))
    layouts: list[Any] = [image, image, None] if recipe.given == "image" else [None, None, ac.TokenLayout.text()]
    several = recipe.shape not in ("stack", "shared")
    inside = "inner." if recipe.wrapped else ""
    towers = [inside + name for name in recipe.names]
    return st.builds(
        ac.Reading,
        kind=st.sampled_from([None] * 4 + ["encoder", "decoder", "cross"] * several),
        tower=st.sampled_from([*towers, None] if several else [None] * 6 + towers),
        tokens=st.sampled_from(layouts),
    )


assert HEADS == 2, "the tables of edits name two heads"
