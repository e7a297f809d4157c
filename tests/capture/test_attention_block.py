"""Contributions beside a dense replica that holds every T_i(x_j), and parts that do not add up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_interp.capture import AttentionBlock, LayerNorm, Measure, contribution_sizes, contributions_of
from attnchain_interp.operators import tiles

BATCH, HEADS, N, WIDTH = 2, 3, 5, 7
MEASURES: list[Measure] = ["norm", "norm-res", "norm-resln", "projection", "alti"]
EVERYONE = torch.ones(BATCH, N, dtype=torch.bool)


def block(normalised: bool = True, dtype: torch.dtype = torch.float64, heads: int = HEADS) -> AttentionBlock:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    maps, values = (2 * random(BATCH, heads, N, N)).softmax(-1), random(BATCH, heads, N, WIDTH)
    bias, residual = 0.1 * random(WIDTH), random(BATCH, N, WIDTH)
    attended = (maps @ values).sum(1) + bias
    weight, shift = 1 + 0.5 * random(WIDTH), 0.1 * random(WIDTH)
    output = attended + residual
    if normalised:
        output = F.layer_norm(output, (WIDTH,), weight, shift, 1e-3)
    norm = LayerNorm(weight.to(dtype), shift.to(dtype), 1e-3) if normalised else None
    maps, values, bias, attended, residual, output = (
        part.to(dtype) for part in (maps, values, bias, attended, residual, output)
    )
    return AttentionBlock("Model, layer 'x'", maps, values, bias, attended, residual, norm, output)


def gated(found: AttentionBlock, gate: int | None, scale: int | None) -> AttentionBlock:
    """The same block with values of `HEADS` × 4 channels, and gates and scales of one number, or of one for each channel."""
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    values, projection = 2 * random(BATCH, HEADS, N, 4) - 1, 2 * random(HEADS, 4, WIDTH) - 1
    gates = None if gate is None else random(BATCH, HEADS, N, gate)
    scales = None if scale is None else 0.5 + random(BATCH, N, scale)
    assert isinstance(found.attention, Tensor)
    mixed = found.attention @ values
    attended = torch.einsum("bhid,hdw->biw", mixed if gates is None else mixed * gates, projection)
    attended = (attended if scales is None else attended * scales) + found.bias
    output = attended + found.residual
    if found.norm is not None:
        output = F.layer_norm(output, (WIDTH,), found.norm.weight, found.norm.bias, found.norm.eps)
    return replace(found, values=values, projection=projection, gate=gates, scale=scales, attended=attended, output=output)


def dense(found: AttentionBlock, measure: Measure) -> Tensor:
    """The same from all vectors T (batch, query, key, width)."""
    assert isinstance(found.attention, Tensor)
    T = torch.einsum("bhij,bhjd->bijhd", found.attention, found.values)
    if found.gate is not None:
        T = T * found.gate.transpose(1, 2)[:, :, None]
    T = T.sum(3) if found.projection is None else torch.einsum("bijhd,hdw->bijw", T, found.projection)
    if found.scale is not None:
        T = T * found.scale[:, :, None]
    y = found.attended + found.residual
    if measure != "norm":
        T = T + torch.eye(N, dtype=T.dtype)[..., None] * found.residual[:, :, None]
    offset = found.bias
    if found.norm is not None and measure in ("norm-resln", "projection", "alti"):
        assert found.norm.weight is not None
        assert found.norm.bias is not None
        deviation = (y.var(-1, correction=0) + found.norm.eps).sqrt()
        T = (T - T.mean(-1, keepdim=True)) * found.norm.weight / deviation[..., None, None]
        offset = (found.bias - found.bias.mean()) * found.norm.weight / deviation[..., None] + found.norm.bias
        y = found.output
    if measure != "norm":
        whole = found.output if measure in ("norm-resln", "projection", "alti") else found.attended + found.residual
        assert torch.allclose(T.sum(2) + offset, whole), "the vectors add up to the output"
    sizes = T.norm(dim=-1)
    if measure == "projection":
        sizes = (T * y[:, :, None]).sum(-1).clamp(min=0)
    if measure == "alti":
        sizes = (y.abs().sum(-1)[..., None] - (y[:, :, None] - T).abs().sum(-1)).clamp(min=0)
    return (sizes / sizes.sum(-1, keepdim=True))[:, None]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("together", [1, 2 * BATCH * N * HEADS, 2**24])
def test_beside_a_dense_replica(measure: Measure, normalised: bool, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_LEAST", 1)
    monkeypatch.setattr(contribution_sizes, "MAPS_TOGETHER", together)  # a query at a time, two, all
    monkeypatch.setattr(contribution_sizes, "_TOGETHER", together)  # a key at a time, some, all
    found = block(normalised)
    assert torch.allclose(contributions_of(found, measure, EVERYONE), dense(found, measure))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize(("gate", "scale"), [(None, None), (1, None), (4, None), (None, 1), (None, WIDTH), (4, WIDTH), (1, 1)])
def test_gates_and_scales_of_each_query(
    measure: Measure, normalised: bool, gate: int | None, scale: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contribution_sizes, "_TOGETHER", 2 * BATCH * N * WIDTH)  # two keys at a time
    found = gated(block(normalised), gate, scale)
    assert torch.allclose(contributions_of(found, measure, EVERYONE), dense(found, measure))
    with pytest.raises(ac.AttentionError, match="do not add up"):
        contributions_of(replace(found, attended=found.attended + 0.01), measure, EVERYONE)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("together", [1, 2 * BATCH * N * HEADS, 2**24])
@pytest.mark.parametrize("gate", [None, 4])
def test_causal_maps_in_tiles(measure: Measure, together: int, gate: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the map is left out, and a lone first token reads itself."""
    monkeypatch.setattr(tiles, "_LEAST", 1)
    monkeypatch.setattr(contribution_sizes, "MAPS_TOGETHER", together)
    monkeypatch.setattr(contribution_sizes, "_TOGETHER", together)
    plain = block()
    assert isinstance(plain.attention, Tensor)
    maps = plain.attention.tril()
    found = gated(replace(plain, attention=maps / maps.sum(-1, keepdim=True)), gate, 1)
    assert found.causal
    assert not plain.causal
    shares = contributions_of(found, measure, EVERYONE)
    assert torch.allclose(shares, dense(found, measure))
    assert torch.equal(shares[:, 0, 0], torch.eye(N, dtype=torch.float64)[:1].expand(BATCH, N))


@pytest.mark.parametrize("measure", MEASURES)
def test_more_heads_than_width(measure: Measure) -> None:
    found = block(heads=WIDTH + 2)
    assert torch.allclose(contributions_of(found, measure, EVERYONE), dense(found, measure))


def test_measures_differ_and_a_norm_alone_reads_the_layer_norm() -> None:
    results = [contributions_of(block(), measure, EVERYONE) for measure in MEASURES]
    assert all(float((a - b).abs().max()) > 0.01 for k, a in enumerate(results) for b in results[:k])
    plain = block(normalised=False)
    assert torch.equal(contributions_of(plain, "norm-resln", EVERYONE), contributions_of(plain, "norm-res", EVERYONE))


def test_one_head_of_equal_values_is_attention() -> None:
    """‖A_ij u_j‖ is A_ij where the values differ by a sign alone."""
    found = block(normalised=False, heads=1)
    u = found.values[:, :, :1] * torch.tensor([1, -1, 1, 1, -1.0])[:, None]
    maps = found.attention
    assert isinstance(maps, Tensor)
    attended = (maps @ u).sum(1) + found.bias
    found = replace(found, values=u, attended=attended, output=attended + found.residual)
    assert torch.allclose(contributions_of(found, "norm", EVERYONE), maps)


@pytest.mark.parametrize("measure", MEASURES)
def test_factors_give_what_their_maps_give(measure: Measure) -> None:
    query, key = torch.randn(2, BATCH, HEADS, N, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    factors = ac.Factors(query, key, causal=True)
    found = block()
    attended = (factors.maps() @ found.values).sum(1) + found.bias
    assert found.norm is not None
    output = F.layer_norm(attended + found.residual, (WIDTH,), found.norm.weight, found.norm.bias, found.norm.eps)
    found = replace(found, attention=factors, attended=attended, output=output)
    shares = contributions_of(found, measure, EVERYONE)
    assert torch.allclose(shares, dense(replace(found, attention=factors.maps()), measure))
    assert not shares.triu(1).any(), "what is not attended to contributes nothing"


@pytest.mark.parametrize("measure", MEASURES)
def test_padding_has_rows_of_zeros_and_proves_nothing(measure: Measure) -> None:
    found, mask = block(), EVERYONE.clone()
    mask[0, 3:] = False
    output = found.output.clone()
    output[0, 3:] = 100.0
    shares = contributions_of(replace(found, output=output), measure, mask)
    assert not shares[0, :, 3:].any()
    assert torch.equal(shares[0, :, :3], contributions_of(found, measure, EVERYONE)[0, :, :3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_types_are_computed_wider(dtype: torch.dtype) -> None:
    shares = contributions_of(block(dtype=dtype), "alti", EVERYONE)
    assert shares.dtype == torch.float32
    assert torch.allclose(shares, contributions_of(block(), "alti", EVERYONE).float(), atol=0.05)


@pytest.mark.parametrize("part", ["attention", "values", "bias", "attended", "residual", "output"])
def test_parts_that_do_not_add_up(part: str) -> None:
    found = block()
    wrong = getattr(found, part).clone()
    wrong[..., 0] += 0.01
    with pytest.raises(ac.AttentionError, match="Model, layer 'x': .* do not add up to what the model computed"):
        contributions_of(replace(found, **{part: wrong}), "alti", EVERYONE)


def test_another_norm_than_that_of_the_model() -> None:
    found = block()
    with pytest.raises(ac.AttentionError, match="its input and its attention do not add up"):
        contributions_of(replace(found, norm=None), "norm", EVERYONE)


@pytest.mark.parametrize("factored", [False, True])
def test_an_output_to_which_nothing_is_near(factored: bool) -> None:
    """y is the bias alone, the values cancel, and each of them leads away from it: attention stands in, row by row."""
    query, key = torch.tensor([[[[0.0], [0.0]]], [[[0.0], [1.0]]]]), torch.tensor([[[[0.0], [1.0]]]]).expand(2, -1, -1, -1)
    attention = ac.Factors(query, key, scale=1.0)
    values, zero = torch.tensor([[[[1.0], [-1.0]]]]).expand(2, -1, -1, -1), torch.zeros(2, 2, 1)
    output = (attention.maps() @ values)[:, 0]
    found = AttentionBlock("M", attention if factored else attention.maps(), values, zero[0, 0], output, zero, None, output)
    everyone = torch.ones(2, 2, dtype=torch.bool)
    assert torch.allclose(contributions_of(found, "norm", everyone), attention.maps())
    with pytest.warns(UserWarning, match="M: no token contributes to the output of 3 tokens by 'alti'.*attention stand in"):
        shares = contributions_of(found, "alti", everyone)
    expected = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.0, 1.0]]])
    assert torch.allclose(shares[:, 0], expected)
