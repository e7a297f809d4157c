"""One forward of every denoiser that is known: which tokens, which maps, and that they are the model's."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import apply_rotary_emb

import attnchain_interp as ac

from ...tiny_pipelines import diffusers, flux_transformer, unet

PATCHES: dict[str, Any] = {"num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 3, "in_channels": 4}


def positions(rows: int, columns: int) -> torch.Tensor:
    ids = torch.zeros(rows, columns, 3)
    ids[..., 1], ids[..., 2] = torch.arange(rows)[:, None], torch.arange(columns)
    return ids.flatten(0, 1)


def flux() -> tuple[Any, dict[str, Any]]:
    image, text = torch.randn(2, 6, 4), torch.randn(2, 5, 32)
    call = {"hidden_states": image, "encoder_hidden_states": text, "pooled_projections": torch.randn(2, 32)}
    return flux_transformer(), call | {
        "timestep": torch.tensor([0.5, 0.5]),
        "img_ids": positions(2, 3),
        "txt_ids": torch.zeros(5, 3),
    }


def sd3() -> tuple[Any, dict[str, Any]]:
    widths: dict[str, Any] = {"joint_attention_dim": 32, "caption_projection_dim": 24, "pooled_projection_dim": 64}
    model = diffusers.SD3Transformer2DModel(sample_size=8, patch_size=2, out_channels=4, **widths, **PATCHES)
    image, text = torch.randn(2, 4, 8, 6), torch.randn(2, 5, 32)
    call = {"hidden_states": image, "encoder_hidden_states": text, "pooled_projections": torch.randn(2, 64)}
    return model, call | {"timestep": torch.tensor([3.0, 3.0])}


def pixart() -> tuple[Any, dict[str, Any]]:
    widths: dict[str, Any] = {"caption_channels": 32, "cross_attention_dim": 24, "out_channels": 8}
    model = diffusers.PixArtTransformer2DModel(
        sample_size=8, patch_size=2, use_additional_conditions=False, **widths, **PATCHES
    )
    call = {"hidden_states": torch.randn(2, 4, 8, 8), "encoder_hidden_states": torch.randn(2, 5, 32)}
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    conditions = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}, "encoder_attention_mask": mask}
    return model, call | {"timestep": torch.tensor([3.0, 3.0])} | conditions


def dit() -> tuple[Any, dict[str, Any]]:
    model = diffusers.DiTTransformer2DModel(sample_size=8, patch_size=2, out_channels=8, num_embeds_ada_norm=8, **PATCHES)
    steps = {"timestep": torch.tensor([3, 3]), "class_labels": torch.tensor([1, 2])}
    return model, {"hidden_states": torch.randn(2, 4, 8, 8)} | steps


def conditional_unet() -> tuple[Any, dict[str, Any]]:
    call = {"sample": torch.randn(2, 4, 16, 16), "timestep": 3, "encoder_hidden_states": torch.randn(2, 5, 32)}
    return unet(), call


def plain_unet() -> tuple[Any, dict[str, Any]]:
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    }
    sizes: dict[str, Any] = {"sample_size": 18, "block_out_channels": (8, 16, 16), "layers_per_block": 1}
    model = diffusers.UNet2DModel(**sizes, **blocks, in_channels=1, out_channels=1, norm_num_groups=4, attention_head_dim=8)
    return model, {"sample": torch.randn(1, 1, 20, 16), "timestep": 3}


CASES: list[tuple[Any, dict[str, Any], int, tuple[int, int]]] = [
    (flux, {}, 3, (2, 3)),
    (sd3, {}, 2, (4, 3)),
    (pixart, {"kind": "self"}, 2, (4, 4)),
    (pixart, {"kind": "cross"}, 2, (4, 4)),
    (dit, {}, 2, (4, 4)),
    (conditional_unet, {"kind": "self", "grid": (16, 16)}, 3, (16, 16)),
    (conditional_unet, {"kind": "self", "grid": (8, 8)}, 4, (8, 8)),
    (conditional_unet, {"kind": "cross", "grid": (8, 8)}, 4, (8, 8)),
    (plain_unet, {"grid": (10, 8)}, 3, (10, 8)),
    (plain_unet, {"grid": (5, 4)}, 4, (5, 4)),
]


@pytest.mark.parametrize(("build", "which", "layers", "grid"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_the_maps_are_the_models(build: Any, which: dict[str, Any], layers: int, grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model, call = build()
    store = ac.capture(model.eval(), reading=ac.Reading(**which), **call)
    image = store.tokens if store.queries is None else store.queries
    assert (len(store), image.grid, store.metadata["adapter"]) == (layers, grid, "diffusers")
    assert int((image.roles[0] == ac.Role.PATCH).sum()) == grid[0] * grid[1]
    proof = ac.prove(model, reading=ac.Reading(**which), **call)
    assert proof.holds
    assert len(proof.layers) == layers


def test_text_comes_first_in_flux_and_last_in_sd3() -> None:
    for (model, call), first in ((flux(), ac.Role.TEXT), (sd3(), ac.Role.PATCH)):
        roles = ac.capture(model.eval(), **call).tokens.roles[0]
        assert roles[0] == first
        assert roles[-1] == ({ac.Role.TEXT, ac.Role.PATCH} - {first}).pop()


def test_padding_of_the_text_is_padding() -> None:
    model, call = pixart()
    store = ac.capture(model.eval(), reading=ac.Reading(kind="cross"), **call)
    assert store.tokens.mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert float(store[0].maps[0, ..., 3:].max()) < 1e-4
    call["encoder_attention_mask"] = -10000.0 * (1 - call["encoder_attention_mask"][:, None])  # as it is added to scores
    added = ac.capture(model.eval(), reading=ac.Reading(kind="cross"), **call)
    assert torch.equal(added.tokens.mask, store.tokens.mask)


def test_the_same_maps_by_an_eager_processor() -> None:
    model, call = conditional_unet()
    which: Any = {"kind": "self", "grid": (8, 8)}
    fused = ac.capture(model, reading=ac.Reading(**which), **call)
    model.set_attn_processor(AttnProcessor())
    eager = ac.capture(model, reading=ac.Reading(**which), **call)
    assert (fused.metadata["route"], eager.metadata["route"]) == ("sdpa", "softmax")
    for name in fused.names:
        torch.testing.assert_close(fused[name].maps, eager[name].maps)


class EagerFlux:
    """A user's own processor, which keeps the maps that it computes."""

    def __init__(self) -> None:
        self.maps: list[torch.Tensor] = []

    def __call__(
        self,
        attn: Any,
        hidden_states: Any,
        encoder_hidden_states: Any = None,
        attention_mask: Any = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        def split(projection: Any, states: Any) -> Any:
            return projection(states).unflatten(-1, (attn.heads, -1))

        query, key = (split(each, hidden_states) for each in (attn.to_q, attn.to_k))
        query, key, value = attn.norm_q(query), attn.norm_k(key), split(attn.to_v, hidden_states)
        if encoder_hidden_states is not None:
            added = [split(each, encoder_hidden_states) for each in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)]
            added = [attn.norm_added_q(added[0]), attn.norm_added_k(added[1]), added[2]]
            query, key, value = (torch.cat(pair, 1) for pair in zip(added, (query, key, value), strict=True))
        query, key = (apply_rotary_emb(each, image_rotary_emb, sequence_dim=1) for each in (query, key))
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5  # type: ignore[operator]
        self.maps.append(scores.softmax(-1))
        mixed = torch.einsum("bhqk,bkhd->bqhd", self.maps[-1], value).flatten(2)
        if encoder_hidden_states is None:
            return mixed
        text = encoder_hidden_states.shape[1]
        return attn.to_out[0](mixed[:, text:]), attn.to_add_out(mixed[:, :text])


def test_a_processor_of_the_users_is_composed_and_stays() -> None:
    torch.manual_seed(0)
    model, call = flux()
    fused, own = ac.capture(model, **call), EagerFlux()
    model.set_attn_processor(own)  # type: ignore[arg-type]
    eager = ac.capture(model, **call)
    assert eager.metadata["route"] == "softmax"
    for k, name in enumerate(fused.names):
        torch.testing.assert_close(eager[name].maps, own.maps[k])
        torch.testing.assert_close(eager[name].maps, fused[name].maps, atol=1e-6, rtol=1e-4)
    assert all(processor is own for processor in model.attn_processors.values())


def test_what_is_refused_says_why() -> None:
    model, call = conditional_unet()
    with pytest.raises(ac.AttentionError, match=r"(?s)several sequences.*Say which is meant.*kind=\"self\", grid=\(16, 16\)"):
        ac.capture(model, **call)
    with pytest.raises(ac.AttentionError, match=r"no attention of kind='joint', grid=None"):
        ac.capture(model, reading=ac.Reading(kind="joint"), **call)
    with pytest.raises(ac.AttentionError, match=r"kind='encoder' is unknown"):
        ac.capture(model, reading=ac.Reading(kind="encoder"), **call)
    with pytest.raises(ac.AttentionError, match="2 labels for 5 text tokens"):
        ac.capture(model, reading=ac.Reading(kind="cross", grid=(8, 8), labels=["a", "b"]), **call)

    class Silent:
        def __call__(self, attn: Any, hidden_states: Any, *_: Any, **__: Any) -> Any:
            return hidden_states

    model.set_attn_processor(Silent())  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match=r"(?s)showed no map.*xFormers.*reset_attention_backend\(\)"):
        ac.capture(model, reading=ac.Reading(kind="self", grid=(8, 8)), **call)


def test_images_behind_the_text_are_refused_where_they_are_attended_to() -> None:
    model, call = conditional_unet()
    own = model.attn_processors
    added = {
        name: IPAdapterAttnProcessor2_0(model.get_submodule(name.removesuffix(".processor")).to_q.in_features, 32)
        for name in own
        if "attn2" in name
    }
    model.set_attn_processor(own | added)
    text, cross = call["encoder_hidden_states"], ac.Reading(kind="cross", grid=(8, 8))
    both: dict[str, Any] = call | {"encoder_hidden_states": (text, [torch.randn(2, 1, 4, 32)])}
    with pytest.raises(ac.AttentionError, match=r"(?s)attention twice in one forward.*an adapter of images"):
        ac.capture(model, **both, reading=cross)
    assert len(ac.capture(model, **both, reading=ac.Reading(kind="self", grid=(8, 8)))) == 4
    nothing: list[float | int] = [0]
    for processor in added.values():
        processor.scale = nothing  # the layer attends to the text alone
    model.set_attn_processor(own | added)
    alone = ac.capture(model, **both, reading=cross)
    model.set_attn_processor(own)
    assert torch.equal(alone.maps(), ac.capture(model, **call, reading=cross).maps())


def test_cross_attention_without_a_text_is_refused() -> None:
    model, call = conditional_unet()
    for text in (None, "a photo"):
        without: dict[str, Any] = call | {"encoder_hidden_states": text}
        with pytest.raises(ac.AttentionError, match=r"(?s)without a text.*encoder_hidden_states=\(batch, token, width\)"):
            ac.capture(model, **without, reading=ac.Reading(kind="cross", grid=(8, 8)))


@pytest.mark.parametrize(("second", "grid"), [((2, 3), "2 × 3"), ((4, 2), "4 × 4")])
def test_several_images_in_one_sequence_of_flux_are_refused(second: tuple[int, int], grid: str) -> None:
    model, call = flux()
    first, other = (
        positions(2, 3) if second == (2, 3) else positions(2, 4),
        positions(*second),
    )  # 2 × 4 and 4 × 2: 4 × 4 tokens
    other[:, 0] = 1
    ids = torch.cat([first, other])
    both: dict[str, Any] = call | {"hidden_states": torch.randn(2, len(ids), 4), "img_ids": ids}
    with pytest.raises(ac.AttentionError, match=f"{len(ids)} image tokens do not fill one grid of {grid}"):
        ac.capture(model, **both)


def test_positions_of_flux_for_each_example() -> None:
    model, call = flux()
    ids: dict[str, Any] = {name: call[name].expand(2, -1, -1) for name in ("img_ids", "txt_ids")}
    assert ac.capture(model, **call | ids).tokens.grid == (2, 3)


def test_the_gated_attention_of_gligen_is_no_self_attention() -> None:
    _, call = conditional_unet()
    model = unet(attention_type="gated")
    store = ac.capture(model, reading=ac.Reading(kind="self", grid=(8, 8)), **call)
    assert len(store) == 4


def test_frames_that_attend_to_the_first_frame_are_refused() -> None:
    model, call = conditional_unet()
    processor = import_module("diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_zero")
    model.set_attn_processor(processor.CrossFrameAttnProcessor2_0(batch_size=1))
    with pytest.raises(ac.AttentionError, match=r"attends from each frame of a video to the first frame"):
        ac.capture(model, reading=ac.Reading(kind="self", grid=(8, 8)), **call)


def test_a_denoiser_that_is_not_known_is_refused_by_name() -> None:
    wrapped = SimpleNamespace(unet=torch.nn.Sequential(unet()))
    with pytest.raises(ac.AttentionError, match="Sequential has not been tried"), ac.diffusion.capture_pipeline(wrapped):
        pass
    with pytest.raises(ac.AttentionError, match=r"(?s)AutoencoderKL has not been tried.*FluxTransformer2DModel"):
        ac.capture(diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=2).eval(), torch.randn(1, 3, 8, 8))
