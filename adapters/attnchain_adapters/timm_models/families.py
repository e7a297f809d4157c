"""The table of timm's models, by class: their modules that attend and the grid, or the reason why they are refused.

`tests/adapters` builds every class small and proves it. A class in neither table has not been tried and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeVar, final

from torch import nn

from attnchain_interp import AttentionError

Known = TypeVar("Known")
Grid = Literal["patches", "stages", "pooled", "positions", "branches"]


@final
@dataclass(frozen=True)
class Family:
    """The attention modules and the layout of the tokens of a class of models.

    Attributes:
        attention: the classes of its modules whose attention is a chain over tokens.
        grid: of the tokens. "patches": that of the patch embedding, in every layer. "stages": each stage has its own, by its
            reduction. "pooled": that of the patch embedding, halved from stage to stage. "positions": each layer has that of
            its position embedding. "branches": one for each of several patch embeddings.
        named: the last name of these modules, where others of their class attend to something else.
        beside: the classes of modules that attend too, and are left out.
        remark: for the table of models.
    """

    attention: tuple[str, ...]
    grid: Grid = "stages"
    named: str = ""
    beside: tuple[str, ...] = ()
    remark: str = ""


def _all(names: str, known: Known) -> dict[str, Known]:
    return dict.fromkeys(names.split(), known)


_STAGES: Final = "one grid per stage: choose layers=…"

FAMILIES: Final[dict[str, Family]] = {
    **_all(
        "VisionTransformer VisionTransformerDistilled Beit Eva NaFlexVit",
        Family(("Attention", "AttentionRope", "EvaAttention", "ParallelScalingBlock"), "patches"),
    ),
    "VisionTransformerRelPos": Family(("RelPosAttention",), "patches"),
    **_all(
        "DeepseekVitEncoder DeepseekVitClassifier Qwen3VitEncoder Qwen3VitClassifier",
        Family(("AttentionRope",), "patches"),
    ),
    **_all("Gemma4VitEncoder Gemma4VitClassifier", Family(("Gemma4Attention",), "patches")),
    "TNT": Family(
        ("Attention",), "patches", "attn_out", remark="attention between patches; that within each patch is left out"
    ),
    "CrossVit": Family(
        ("Attention",),
        "branches",
        beside=("CrossAttention",),
        remark="one grid per branch: choose layers=…; attention from branch to branch is left out",
    ),
    "PoolingVisionTransformer": Family(("Attention",), "pooled", remark=_STAGES),
    **_all("MetaFormer EfficientFormer FastVit Visformer", Family(("Attention",), remark=_STAGES)),
    **_all(
        "Levit LevitDistilled",
        Family(
            ("Attention",),
            beside=("AttentionDownsample",),
            remark=_STAGES + "; attention that shrinks the grid between stages is left out",
        ),
    ),
    "VOLO": Family(
        ("Attention",),
        beside=("OutlookAttention", "ClassAttention"),
        remark="outlook attention before and class attention after the blocks is left out",
    ),
    "MaxxVit": Family(("Attention2d",), remark=_STAGES + "; CoAtNet and CoAtNeXt (MaxViT attends within windows)"),
    "ByobNet": Family(("BottleneckAttn",), "positions", remark=_STAGES + "; BoTNet"),
    "IFormer": Family(("SHMA",), remark=_STAGES),
    "SHViT": Family(("SHSA",), remark=_STAGES + "; one head, over a part of the channels"),
}

_WINDOWS: Final = "attends within windows, which are folded into the batch; a walk over the image cannot cross them"
_FEWER_KEYS: Final = "attends to a reduced set of keys, so its maps are rectangular"
_CHANNELS: Final = "attends from channel to channel, not from token to token"
_LINEAR: Final = "has linear attention, which has no softmax and so no map"
_TALKING: Final = (
    "mixes its heads after the softmax (talking heads), so what its values are multiplied with has negative entries and rows"
    " that do not sum to one"
)
_SIGNED: Final = "subtracts one map from another, so entries are negative"
_POOLED_QUERIES: Final = "pools its queries and keys, so its maps are rectangular, and attends within windows at first"
_COARSE: Final = "attends among convolved samples of its stage, spread over the whole again by a transposed convolution"
_NONE: Final = "has no attention from token to token"

REFUSED: Final[dict[str, str]] = {
    **_all(
        "SwinTransformer SwinTransformerV2 SwinTransformerV2Cr GlobalContextVit Nest TinyVit VisionTransformerSAM",
        _WINDOWS,
    ),
    **_all("PyramidVisionTransformerV2 NextViT MobileNetV5 MobileNetV5Encoder", _FEWER_KEYS),
    "Twins": _FEWER_KEYS + ", or within windows",
    **_all("MultiScaleVit Hiera HieraDet", _POOLED_QUERIES),
    **_all("Xcit EdgeNeXt", _CHANNELS),
    "DaVit": "attends within windows and from channel to channel, by turns",
    "CoaT": "has factorised attention: a softmax over the keys alone, multiplied with the values first, so there is no map",
    **_all("EfficientVit EfficientVitLarge", _LINEAR),
    "EfficientVitMsra": "attends within windows, its heads one after another, each to the output of the one before",
    "SwiftFormer": "has additive attention, which weighs tokens once for all queries, so there is no map",
    "Cait": _TALKING,
    "EfficientFormerV2": _TALKING,
    "ConVit": "mixes a map of contents and one of positions by a gate, after the softmax; neither is what it attends with",
    "CSATv2": "attends from example to example of a batch in its spatial gates, so maps of one image depend on the others",
    **_all("CPUBone LowFormer", _COARSE),
    **_all("EfficientViM EfficientViMDistilled", "is a state-space model; there is no attention, so no transition matrix"),
    "FocalNet": "modulates by focal contexts; there is no attention",
    "MambaOut": _NONE,
    **_all(
        "ConvMixer ConvNeXt CspNet CspNext DLA DPN DenseNet EfficientNet EfficientNetFeatures FasterNet GhostNet"
        " HighPerfGpuNet HighResolutionNet HighResolutionNetFeatures InceptionResnetV2 InceptionV3 InceptionV4 LCNetV2"
        " MetaNeXt MlpMixer MobileNetV3 MobileNetV3Features NASNetALarge NormFreeNet PNASNet5Large RDNet RegNet"
        " RepGhostNet RepVit ResNet ResNetV2 RexNet SENet SelecSls Sequencer2d StarNet TResNet VGG VovNet Xception"
        " XceptionAligned",
        _NONE,
    ),
    **_all(
        "FeatureDictNet FeatureGetterNet FeatureGraphNet FeatureHookNet FeatureListNet GraphExtractNet",
        "returns the features of a part of a model; capture the model itself, made without features_only=True",
    ),
}

REFUSED_PARTS: Final[dict[str, str]] = {
    **_all("DiffAttention DiffParallelScalingBlock", _SIGNED),
    **_all("PartitionAttention2d PartitionAttentionCl ParallelPartitionAttention", _WINDOWS),
    "MobileVitBlock": "folds parts of patches into the batch; a walk over the image cannot cross them",
    "MobileVitV2Block": _LINEAR,
    "HaloAttn": _WINDOWS,
    "LambdaLayer": _LINEAR,
    **_all("MultiQueryAttention2d MultiQueryAttentionV2", _FEWER_KEYS),
}


def known_class(model: nn.Module) -> str | None:
    """Returns the name of a model's class, or of the base class, that is in a table; None where there is none."""
    classes = [kind.__name__ for kind in type(model).__mro__ if kind.__module__.split(".")[0] == "timm"]
    return next((kind for kind in classes if kind in REFUSED or kind in FAMILIES), None)


def family_of(model: nn.Module) -> Family:
    """Returns the family of a model's class.

    Raises:
        AttentionError: the class is refused, holds a module that is refused, or has not been tried.
    """
    name = type(model).__name__
    known = known_class(model)
    inside = [part for module in model.modules() if (part := type(module).__name__) in REFUSED_PARTS]
    if known in REFUSED or inside:
        does = f"holds a {inside[0]}, which {REFUSED_PARTS[inside[0]]}" if inside else REFUSED[str(known)]
        raise AttentionError(f"{name} {does}. There is no chain over its tokens to capture.")
    if known is None:
        raise AttentionError(
            f"{name} ({type(model).__module__}) is not among the models of timm that have been tried, so nothing says that its"
            " maps would be right. The tried ones are in docs/models.md.",
            "If it is a part of a tried model, capture the whole model. Otherwise pass the maps yourself:"
            " AttentionStore.from_maps(your_maps, tokens=…).",
        )
    return FAMILIES[known]
