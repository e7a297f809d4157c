"""The architectures of timm that are tried, each as small as it can be built, and those that are refused, with the reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

from timm.models.metaformer import Attention, LayerNorm2dNoBias, LayerNormNoBias, SepConv

from attnchain_adapters.timm_models.families import FAMILIES, REFUSED, REFUSED_PARTS


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
        fixed: the architecture's function fixes its size, so a smaller model of its class stands for it.
    """

    family: str
    options: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (64, 64)
    prefix: tuple[str, ...] = ()
    layers: int = 2
    grid: tuple[int, int] = (4, 4)
    chosen: Any = "all"
    pool: int | None = None
    fixed: bool = False


class Listed(NamedTuple):
    """A line of the table of models."""

    name: str
    supported: bool
    kinds: tuple[str, ...]
    route: str
    remark: str


def _roles(letters: str) -> tuple[str, ...]:
    return tuple({"c": "class", "d": "special", "r": "register"}[letter] for letter in letters)


def _plain(family: str, prefix: str = "", size: int = 64, **more: Any) -> Row:
    """A model of one stage."""
    row = {key: more.pop(key) for key in ("layers", "pool", "grid") if key in more}
    options = {"img_size": size, "depth": 2, "embed_dim": 48, "num_heads": 3, **more}
    kept = {key: value for key, value in options.items() if value is not None}
    return Row(family, kept, (size, size), _roles(prefix), **row)


def _vit(prefix: str = "", size: int = 64, **more: Any) -> Row:
    return _plain("VisionTransformer", prefix, size, **more)


def _relpos(prefix: str = "") -> Row:
    return _plain("VisionTransformerRelPos", prefix)


def _eva(prefix: str = "", size: int = 64, **more: Any) -> Row:
    return _plain("Eva", prefix, size, **more)


def _naflex(prefix: str = "", **more: Any) -> Row:
    return _plain("NaFlexVit", prefix, 64, **{"img_size": None, **more})


def _fixed(family: str, size: int, count: int, side: int, chosen: Any, prefix: str = "", **options: Any) -> Row:
    return Row(family, options, (size, size), _roles(prefix), count, (side, side), chosen, fixed=True)


def _stages(family: str, size: int, count: int, side: int, chosen: Any, **options: Any) -> Row:
    return Row(family, options, (size, size), (), count, (side, side), chosen)


UNFUSED = {"ByobNet", "EfficientFormer", "Levit", "LevitDistilled", "SHViT", "TNT", "Visformer"}  # whose softmax is seen

COATNET = {"embed_dim": (16, 32, 64, 64), "depths": (1, 1, 2, 1), "stem_width": (8, 16), "img_size": 64}
CROSS = {"img_size": 32, "embed_dim": (24, 48), "depth": ((1, 2, 1),), "num_heads": (3, 3)}
PIT = {"img_size": 64, "base_dims": (16, 16, 16), "depth": (1, 2, 1), "heads": (1, 2, 4)}
META = {
    "depths": (1, 1, 2, 1),
    "dims": (16, 32, 64, 96),
    "token_mixers": (SepConv, SepConv, Attention, Attention),
    "norm_layers": (LayerNorm2dNoBias, LayerNorm2dNoBias, LayerNormNoBias, LayerNormNoBias),
}
EFFICIENT = {"depths": (1, 1, 1, 2), "embed_dims": (16, 16, 32, 32), "num_vit": 1}
FAST = {"layers": (1, 1, 1, 1), "embed_dims": (32, 32, 32, 64)}
LEVIT = {"img_size": 64, "embed_dim": (32, 48, 64), "key_dim": 8, "depth": (1, 2, 1), "num_heads": (2, 3, 4)}
VISFORMER = {"img_size": 64, "init_channels": 8, "embed_dim": 48, "depth": (1, 2, 1)}
VOLO = {"img_size": 64, "layers": (1, 1, 1, 1), "embed_dims": (24, 48, 48, 48), "num_heads": (3, 3, 3, 3)}
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
    "vit_so150m_patch16_reg4_map_256": _vit("rrrr", pool=16),
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
    "deepseek_vit_412m_enc": _plain("DeepseekVitEncoder", "", 56, out_features=48),
    "qwen3_vit_88m_enc": _plain("Qwen3VitEncoder"),
    "gemma4_vit_167m_enc": _plain("Gemma4VitEncoder", "", 96, grid=(6, 6)),
    # Models of several sequences of tokens
    "tnt_s_patch16_224": _plain("TNT", "c", num_heads=None, num_heads_outer=3, inner_dim=12),
    "crossvit_tiny_240": _fixed("CrossVit", 32, 3, 4, slice(1, 3), "c", patch_size=(4, 8), **CROSS),
    # Models of several stages
    "pit_ti_224": _fixed("PoolingVisionTransformer", 64, 4, 4, slice(1, 3), "c", **PIT),
    "pit_ti_distilled_224": _fixed("PoolingVisionTransformer", 64, 4, 7, slice(0, 1), "cd", distilled=True, **PIT),
    "coatnet_nano_rw_224": _stages("MaxxVit", 64, 3, 4, slice(0, 2), **COATNET),
    "coatnet_rmlp_nano_rw_224": _stages("MaxxVit", 64, 3, 4, slice(0, 2), **COATNET),
    "coatnet_0_224": _stages("MaxxVit", 64, 3, 2, -1, **COATNET),
    "coatnext_nano_rw_224": _stages("MaxxVit", 64, 3, 4, slice(0, 2), **COATNET),
    "caformer_s18": _fixed("MetaFormer", 64, 3, 4, slice(0, 2), **META),
    "efficientformer_l1": _fixed("EfficientFormer", 224, 1, 7, "all", **EFFICIENT),
    "fastvit_sa12": _stages("FastVit", 64, 1, 2, "all", **FAST),
    "fastvit_mci0": _stages("FastVit", 64, 1, 2, "all", **FAST),
    "levit_128s": _fixed("LevitDistilled", 64, 4, 2, slice(1, 3), **LEVIT),
    "levit_conv_128s": _fixed("LevitDistilled", 64, 4, 2, slice(1, 3), use_conv=True, **LEVIT),
    "levit_384_s8": _fixed("Levit", 64, 4, 2, slice(1, 3), **LEVIT),
    "visformer_tiny": _stages("Visformer", 64, 3, 4, slice(0, 2), **VISFORMER),
    "volo_d1_224": _fixed("VOLO", 64, 3, 4, "all", **VOLO),
    "botnet26t_256": _stages("ByobNet", 64, 3, 4, slice(0, 2), img_size=64),
    "iformer_t": _stages("IFormer", 64, 5, 4, slice(0, 3), dims=(16, 24, 32, 64)),
    "shvit_s1": _stages("SHViT", 128, 3, 2, slice(1, 3), embed_dim=(32, 48, 64), depth=(1, 1, 2), partial_dim=(8, 12, 16)),
}

# Of models that are refused: an architecture, and words of the reason.
REFUSED_ROWS: dict[str, str] = {
    "swin_tiny_patch4_window7_224": "SwinTransformer attends within windows",
    "swinv2_tiny_window8_256": "SwinTransformerV2 attends within windows",
    "swinv2_cr_tiny_224": "SwinTransformerV2Cr attends within windows",
    "gcvit_xxtiny": "GlobalContextVit attends within windows",
    "nest_tiny": "Nest attends within windows",
    "tiny_vit_5m_224": "TinyVit attends within windows",
    "samvit_base_patch16": "VisionTransformerSAM attends within windows",
    "maxvit_nano_rw_256": "MaxxVit holds a PartitionAttentionCl, which attends within windows",
    "maxxvit_rmlp_nano_rw_256": "MaxxVit holds a PartitionAttentionCl, which attends within windows",
    "halonet26t": "ByobNet holds a HaloAttn, which attends within windows",
    "mobilevit_xxs": "ByobNet holds a MobileVitBlock, which folds parts of patches into the batch",
    "pvt_v2_b0": "PyramidVisionTransformerV2 attends to a reduced set of keys, so its maps are rectangular",
    "nextvit_small": "NextViT attends to a reduced set of keys",
    "mobilenetv4_hybrid_medium": "MobileNetV3 holds a MultiQueryAttention2d, which attends to a reduced set of keys",
    "mobilenetv5_300m": "MobileNetV5 holds a MultiQueryAttention2d, which attends to a reduced set of keys",
    "twins_pcpvt_small": "Twins attends to a reduced set of keys",
    "mvitv2_tiny": "MultiScaleVit pools its queries and keys",
    "hiera_tiny_224": "Hiera pools its queries and keys",
    "sam2_hiera_tiny": "HieraDet pools its queries and keys",
    "xcit_nano_12_p16_224": "Xcit attends from channel to channel",
    "edgenext_xx_small": "EdgeNeXt attends from channel to channel",
    "davit_tiny": "DaVit attends within windows and from channel to channel",
    "coat_lite_tiny": "CoaT has factorised attention",
    "efficientvit_b0": "EfficientVit has linear attention",
    "efficientvit_m0": "EfficientVitMsra attends within windows, its heads one after another",
    "mobilevitv2_050": "ByobNet holds a MobileVitV2Block, which has linear attention",
    "lambda_resnet26t": "ByobNet holds a LambdaLayer, which has linear attention",
    "swiftformer_xs": "SwiftFormer has additive attention",
    "cait_xxs24_224": "Cait mixes its heads after the softmax",
    "efficientformerv2_s0": "EfficientFormerV2 mixes its heads after the softmax",
    "convit_tiny": "ConVit mixes a map of contents and one of positions",
    "vit_dwee_patch16_reg1_gap_256": "VisionTransformer holds a DiffAttention, which subtracts one map from another",
    "vit_dpwee_patch16_reg1_gap_256": "VisionTransformer holds a DiffParallelScalingBlock, which subtracts one map",
    "csatv2": "CSATv2 attends from example to example of a batch",
    "lowformer_b0": "LowFormer attends among convolved samples of its stage",
    "cpubone_b0_bfrobust": "CPUBone attends among convolved samples of its stage",
    "efficientvim_m1": "EfficientViM is a state-space model",
    "focalnet_tiny_srf": "FocalNet modulates by focal contexts",
    "mambaout_femto": "MambaOut has no attention from token to token",
    "mixer_s32_224": "MlpMixer has no attention from token to token",
    "resnet10t": "ResNet has no attention from token to token",
    "fastvit_t8": "this FastVit has no attention module",
    "poolformer_s12": "this MetaFormer has no attention module",
    "resnet50_clip": "this ByobNet has no attention module",
}


def listed() -> Iterator[Listed]:
    """Every architecture that is tried, then every class of models, or of their parts, that is refused, with its reason."""
    for name, row in ROWS.items():
        family, kinds = FAMILIES[row.family], ("encoder",) if row.pool is None else ("encoder", "pool")
        yield Listed(name, True, kinds, "softmax" if row.family in UNFUSED else "sdpa", family.remark)
    for name, reason in (REFUSED | REFUSED_PARTS).items():
        yield Listed(name, False, (), "", reason)
