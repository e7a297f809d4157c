"""The architectures of timm that are tried, each as small as it can be built, and those that are refused with their reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

from attnchain_adapters.timm_models.families import FAMILIES, REFUSED


@final
@dataclass(frozen=True)
class Row:
    """A small model of one architecture.

    Attributes:
        family: the model's class.
        options: what makes it small.
        size: of the images it is tried on.
        prefix: roles of the tokens before the patches.
        layers: how many there are.
        grid: of the tokens of the layers that are chosen.
        chosen: which of the layers, where stages have different grids.
        pool: tokens that its pooling head attends to; None where it has none.
    """

    family: str
    options: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (64, 64)
    prefix: tuple[str, ...] = ()
    layers: int = 2
    grid: tuple[int, int] = (4, 4)
    chosen: Any = "all"
    pool: int | None = None


class Listed(NamedTuple):
    """A line of the table of models."""

    name: str
    supported: bool
    kinds: tuple[str, ...]
    route: str
    remark: str


def _plain(family: str, prefix: str = "", size: int = 64, **more: Any) -> Row:
    """A model of one stage."""
    row = {key: more.pop(key) for key in ("layers", "pool", "grid") if key in more}
    options = {"img_size": size, "depth": 2, "embed_dim": 48, "num_heads": 3, **more}
    roles = {"c": "class", "d": "special", "r": "register"}
    kept = {key: value for key, value in options.items() if value is not None}
    return Row(family, kept, (size, size), tuple(roles[letter] for letter in prefix), **row)


def _vit(prefix: str = "", size: int = 64, **more: Any) -> Row:
    return _plain("VisionTransformer", prefix, size, **more)


def _relpos(prefix: str = "") -> Row:
    return _plain("VisionTransformerRelPos", prefix)


def _eva(prefix: str = "", size: int = 64, **more: Any) -> Row:
    return _plain("Eva", prefix, size, **more)


def _naflex(prefix: str = "", **more: Any) -> Row:
    return _plain("NaFlexVit", prefix, 64, **{"img_size": None, **more})


def _stages(family: str, size: int, count: int, side: int, chosen: Any, **options: Any) -> Row:
    return Row(family, options, (size, size), (), count, (side, side), chosen)


COATNET = {"embed_dim": (16, 32, 64, 64), "depths": (1, 1, 2, 1), "stem_width": (8, 16), "img_size": 64}
VITAMIN = {"img_size": 64, "depth": 2, "num_heads": 3}

ROWS: dict[str, Row] = {
    # VisionTransformer
    "vit_tiny_patch16_224": _vit("c"),
    "vit_small_patch8_224": _vit("c", 32),
    "vit_base_patch16_gap_224": _vit(),
    "vit_base_patch16_rpn_224": _vit(),
    "vit_base_patch16_224_miil": _vit("c"),
    "vit_base_patch16_18x2_224": _vit("c", layers=4),
    "vit_base_patch16_xp_224": _vit("c"),
    "vit_pwee_patch16_reg1_gap_256": _vit("r"),
    "vit_little_patch16_reg1_gap_256": _vit("r"),
    "vit_medium_patch16_reg4_gap_256": _vit("rrrr"),
    "vit_so150m_patch16_reg4_gap_256": _vit("rrrr"),
    "vit_so150m_patch16_reg4_map_256": _vit("rrrr", pool=20),
    "vit_so150m2_patch16_reg1_gap_256": _vit("r"),
    "vit_base_patch16_clip_224": _vit("c"),
    "vit_base_patch16_clip_quickgelu_224": _vit("c"),
    "vit_base_patch16_siglip_224": _vit(pool=16),
    "vit_base_patch16_siglip_gap_224": _vit(),
    "vit_so400m_patch14_siglip_224": _vit(size=56, pool=16),
    "vit_small_patch14_dinov2": _vit("c", 56),
    "vit_small_patch14_reg4_dinov2": _vit("crrrr", 56),
    "vit_base_patch14_reg1_tipsv2": _vit("cr", 56),
    "vit_base_patch16_radio_v3": _vit("crrrrrrr"),
    "vit_intern300m_patch14_448": _vit("c", 56),
    "aimv2_large_patch14_224": _vit(size=56),
    "beit3_base_patch16_224": _vit("c"),
    "eva_large_patch14_196": _vit("c", 56),
    "flexivit_small": _vit("c"),
    "deit_tiny_patch16_224": _vit("c"),
    "deit3_small_patch16_224": _vit("c"),
    "deit_tiny_distilled_patch16_224": _plain("VisionTransformerDistilled", "cd"),
    "vit_tiny_r_s16_p8_224": _vit("c", 128),
    "vit_small_r26_s32_224": _vit("c", 128),
    "vitamin_small_224": Row("VisionTransformer", VITAMIN),
    # VisionTransformerRelPos
    "vit_relpos_small_patch16_224": _relpos(),
    "vit_relpos_base_patch16_cls_224": _relpos("c"),
    "vit_relpos_base_patch16_clsgap_224": _relpos("c"),
    "vit_relpos_base_patch16_rpn_224": _relpos(),
    "vit_srelpos_small_patch16_224": _relpos(),
    # BEiT
    "beit_base_patch16_224": _plain("Beit", "c"),
    "beitv2_base_patch16_224": _plain("Beit", "c"),
    # Eva
    "eva_giant_patch14_224": _eva("c", 56),
    "eva02_tiny_patch14_224": _eva("c", 56),
    "eva02_base_patch16_clip_224": _eva("c"),
    "vit_small_patch16_dinov3": _eva("crrrr"),
    "vit_small_patch16_rope_224": _eva("c"),
    "vit_small_patch16_rope_mixed_224": _eva("c"),
    "vit_small_patch16_rope_mixed_ape_224": _eva("c"),
    "vit_medium_patch16_rope_reg1_gap_256": _eva("r"),
    "vit_pe_core_tiny_patch16_384": _eva("c", pool=17),
    "vit_pe_lang_large_patch14_448": _eva("c", 56),
    "vit_pe_spatial_tiny_patch16_512": _eva("c"),
    "vit_base_patch16_sapiens2": _eva("crrrrrrrr", num_kv_heads=1),
    "vit_base_patch16_lingbot": _eva("crrrr"),
    # NaFlexVit, and the towers of vision–language models
    "naflexvit_base_patch16_gap": _naflex("rrrr"),
    "naflexvit_base_patch16_par_gap": _naflex("rrrr"),
    "naflexvit_base_patch16_parfac_gap": _naflex("rrrr"),
    "naflexvit_base_patch16_map": _naflex("r", pool=16),
    "naflexvit_base_patch16_siglip": _naflex(pool=16),
    "naflexvit_base_patch16_radio_v3": _naflex("crrrrrrr"),
    "deepseek_vit_412m": _plain("DeepseekVitClassifier", "", 56),
    "qwen3_vit_88m": _plain("Qwen3VitClassifier"),
    "gemma4_vit_167m": _plain("Gemma4VitClassifier"),
    # Models of several sequences of tokens
    "tnt_s_patch16_224": _plain("TNT", "c", num_heads=None, num_heads_outer=3, inner_dim=12),
    "crossvit_tiny_240": Row("CrossVit", {"img_size": 120}, (120, 120), ("class",), 12, (7, 7), slice(1, 4)),
    # Models of several stages
    "pit_ti_224": Row("PoolingVisionTransformer", {"img_size": 64}, (64, 64), ("class",), 12, (4, 4), slice(2, 8)),
    "pit_ti_distilled_224": Row(
        "PoolingVisionTransformer", {"img_size": 64}, (64, 64), ("class", "special"), 12, (7, 7), slice(0, 2)
    ),
    "coatnet_nano_rw_224": _stages("MaxxVit", 64, 3, 4, slice(0, 2), **COATNET),
    "coatnet_rmlp_nano_rw_224": _stages("MaxxVit", 64, 3, 4, slice(0, 2), **COATNET),
    "coatnet_0_224": _stages("MaxxVit", 64, 3, 2, -1, **COATNET),
    "coatnext_nano_rw_224": _stages("MaxxVit", 64, 3, 4, slice(0, 2), **COATNET),
    "caformer_s18": _stages("MetaFormer", 64, 12, 4, slice(0, 2)),
    "efficientformer_l1": _stages("EfficientFormer", 224, 1, 7, "all"),
    "fastvit_sa12": _stages("FastVit", 128, 1, 4, "all", layers=(1, 1, 1, 1), embed_dims=(32, 32, 32, 64)),
    "fastvit_mci0": _stages("FastVit", 128, 1, 4, "all", layers=(1, 1, 1, 1), embed_dims=(32, 32, 32, 64)),
    "levit_128s": _stages("LevitDistilled", 64, 9, 2, slice(2, 5), img_size=64),
    "levit_conv_128s": _stages("LevitDistilled", 64, 9, 4, slice(0, 2), img_size=64),
    "visformer_tiny": _stages("Visformer", 64, 8, 4, slice(0, 4), img_size=64),
    "volo_d1_224": _stages("VOLO", 64, 14, 4, slice(0, 2), img_size=64),
    "botnet26t_256": _stages("ByobNet", 64, 3, 4, slice(0, 2), img_size=64),
    "sebotnet33ts_256": _stages("ByobNet", 64, 4, 4, slice(1, 3), img_size=64),
    "iformer_t": _stages("IFormer", 64, 5, 4, slice(0, 3)),
    "shvit_s1": _stages("SHViT", 128, 9, 4, slice(0, 4)),
}

REFUSED_ROWS: dict[str, str] = {}


def listed() -> Iterator[Listed]:
    """Every architecture that is tried, then every class that is refused, with its reason."""
    for name, row in ROWS.items():
        yield Listed(name, True, ("encoder",) if row.pool is None else ("encoder", "pool"), "", FAMILIES[row.family].remark)
    for name, reason in REFUSED.items():
        yield Listed(name, False, (), "", reason)
