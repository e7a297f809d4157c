"""Every supported transformers family, built small from its configuration with random weights, and an input for each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

transformers.logging.set_verbosity_error()  # which weights are new: all

BATCH, TOKENS, TARGETS = 2, 12, 9
WIDTH: Final = 48


def _sized(size: Any, *names: str) -> dict[str, Any]:
    return dict.fromkeys(names, size)


# What configurations call their sizes; each gets those that it has.
SIZES: Final[dict[str, Any]] = {
    **_sized(
        WIDTH, "hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embed_dim", "embedding_size", "word_embed_proj_dim"
    ),
    **_sized(3, "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers"),
    **_sized(3, "num_decoder_layers"),
    **_sized(4, "num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"),
    **_sized(
        32, "intermediate_size", "n_inner", "d_ff", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_inner", "ffn_dim"
    ),
    **_sized(32, "moe_intermediate_size", "shared_expert_intermediate_size"),
    **_sized(60, "vocab_size", "src_vocab_size", "tgt_vocab_size"),
    **_sized(64, "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "image_size"),
    **_sized(2, "num_experts", "num_local_experts", "n_routed_experts", "num_key_value_heads", "eos_token_id"),
    **_sized(1, "num_experts_per_tok", "bos_token_id"),
    **_sized(12, "head_dim", "d_kv"),
    **_sized(16, "patch_size"),
    **_sized(0, "pad_token_id"),
}


@dataclass(frozen=True)
class Member:
    """One model of the zoo.

    Attributes:
        model_type: as its configuration says.
        config: what its configuration needs beside `SIZES`; a part of another model's configuration by `parts`.
        without: names of `SIZES` that it cannot take.
        parts: model types of the towers, by the name of their part of the configuration.
        inputs: replaces what `inputs` would give.
        stacks: tower and kind of each stack that it has.
        prefix: role names of the first tokens of the first stack.
        model: the class, where `AutoModel` gives another.
        sharpness: of its attention: the standard deviation of its weights.
        averaged: its eager modules return the mean of the heads' maps in place of the maps.
    """

    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    parts: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    stacks: tuple[tuple[str | None, str], ...] = ((None, "encoder"),)
    prefix: tuple[str, ...] = ()
    model: str = ""
    sharpness: float = 0.3
    averaged: bool = False


ENCODER_DECODER: Final = ((None, "encoder"), (None, "decoder"), (None, "cross"))
TOWERS_OF_TWO: Final = (("encoder", "encoder"), ("decoder", "decoder"), ("decoder", "cross"))
TWO_TOWERS: Final = (("text", "encoder"), ("vision", "encoder"))


def sizes(model_type: str, config: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    known = AutoConfig.for_model(model_type)
    return {name: size for name, size in SIZES.items() if name not in without and hasattr(known, name)} | config


def configuration(member: Member) -> Any:
    given = dict(member.config)
    for part, model_type in member.parts.items():
        own = MEMBERS[model_type] if model_type in MEMBERS else Member(model_type)
        given[part] = sizes(model_type, own.config | given.pop(f"{part}+", {}), own.without)
        given[part]["model_type"] = model_type
    if member.parts:
        return AutoConfig.for_model(member.model_type, **given)
    return AutoConfig.for_model(member.model_type, **sizes(member.model_type, given, member.without))


def build(member: Member, implementation: str | None = None) -> Any:
    torch.manual_seed(0)
    kind: Any = getattr(transformers, member.model) if member.model else AutoModel
    config = configuration(member)
    options = {} if implementation is None else {"attn_implementation": implementation}
    model = (kind._from_config if member.model else kind.from_config)(config, **options).eval()
    return sharpen(model, member.sharpness)


def sharpen(model: nn.Module, sharpness: float) -> nn.Module:
    """Random weights attend almost uniformly, so that any two maps agree: make queries and keys count."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if "Attention" in type(module).__name__:
            for parameter in module.parameters():
                if parameter.ndim >= 2:
                    parameter.data = sharpness * torch.randn(parameter.shape, generator=generator)
    return model


def inputs(member: Member, model: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    accepted = inspect.signature(model.forward).parameters

    def ids(n: int) -> Tensor:
        return torch.randint(3, 60, (BATCH, n), generator=generator)

    made = {
        "input_ids": lambda: ids(TOKENS),
        "decoder_input_ids": lambda: ids(TARGETS),
        "pixel_values": lambda: torch.randn(BATCH, 3, 64, 64, generator=generator),
        "input_values": lambda: torch.randn(BATCH, 4000, generator=generator),
        "input_features": lambda: torch.randn(BATCH, 80, 100, generator=generator),
    }
    wanted = [name for name in made if name in accepted and name not in member.inputs]
    return {name: made[name]() for name in wanted} | {
        name: value() if callable(value) else value for name, value in member.inputs.items() if value is not None
    }


def returned_maps(model: Any, given: dict[str, Any], names: set[str]) -> dict[str, list[Tensor]]:
    """What the attention modules of an eager model return beside their outputs, by module: maps (batch, head, query, key)."""
    found: dict[str, list[Tensor]] = {}

    def look(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            maps = [part for part in tensors(output) if part.ndim == 4 and bool((part >= 0).all())]
            found.setdefault(name, []).extend(maps[-1:])

        return hook

    handles = [model.get_submodule(name).register_forward_hook(look(name)) for name in names]
    with torch.no_grad():
        model(**given, output_attentions=True)
    for handle in handles:
        handle.remove()
    return found


def tensors(output: Any) -> Iterator[Tensor]:
    """The tensors of an output, however nested."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict | list | tuple):
        for part in output.values() if isinstance(output, dict) else output:
            yield from tensors(part)


def with_image(count: int) -> Any:
    """Text with a place for an image of so many tokens."""
    return lambda: torch.cat([torch.full((BATCH, 1), 5), torch.full((BATCH, count), 50), torch.full((BATCH, 6), 7)], 1)


def _text(names: str, **options: Any) -> list[Member]:
    return [Member(name, **options) for name in names.split()]


_CAUSAL: Final = ((None, "decoder"),)
_OWN_HEADS: Final = ("num_key_value_heads", "head_dim")
_MAMBA: Final = {"mamba_n_heads": 8, "mamba_d_head": 12, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
_ROUTED: Final = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 3, "num_key_value_heads": 4}
_LATENT: Final = {
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
} | _ROUTED
_BY_LAYER: Final[dict[str, Any]] = {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]} | {
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 60,
    "num_kv_shared_layers": 0,
}

# without it the fused PaliGemma attends causally and the eager one does not (transformers 5.24)
PREFIX_OF_TEXT: Final = {"token_type_ids": lambda: torch.zeros(BATCH, 23, dtype=torch.long)} | {
    "attention_mask": lambda: torch.ones(BATCH, 23, dtype=torch.long)
}
_SMALL_IDEFICS: Final = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32} | {
    "image_size": 64,
    "patch_size": 16,
}
_SMALL_QFORMER: Final = _SMALL_IDEFICS | {"hidden_size": 24, "encoder_hidden_size": WIDTH, "vocab_size": 60}
_SMALL_SIGLIP: Final = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
_SMALL_GEMMA_4: Final = (
    _SMALL_SIGLIP
    | {"num_key_value_heads": 4, "head_dim": 12, "patch_size": 4}
    | {
        "pooling_kernel_size": 2,
        "position_embedding_size": 16,
    }
)
_IMAGE_AND_PARTS: Final[dict[str, Any]] = {
    "pixel_values": lambda: torch.randn(BATCH, 2, 3, 64, 64),
    "image_sizes": lambda: torch.tensor([[64, 64]] * BATCH),
}
_SMALL_QWEN: Final = {"depth": 2, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2}
_SMALL_QWEN_3: Final = {"hidden_size": 32, "out_hidden_size": WIDTH}

_MEMBERS: Final = [
    *_text(
        "bert bert-generation camembert clip_text_model convbert data2vec-text deberta deberta-v2 distilbert dpr electra"
        " ernie esm eurobert flaubert gte ibert jina_embeddings_v3 markuplm megatron-bert modernbert mpnet nomic_bert rembert"
        " roberta roberta-prelayernorm roc_bert roformer splinter tapas xlm xlm-roberta xlm-roberta-xl",
    ),
    Member("layoutlm", sharpness=1.0),
    Member("esmc", {"num_key_value_heads": 4}),
    Member("xmod", {"languages": ["en"], "default_language": "en"}),
    Member("luke", {"entity_vocab_size": 10}),
    Member("albert", {"num_hidden_layers": 4, "num_hidden_groups": 2}, sharpness=1.0),
    Member("mobilebert", {"true_hidden_size": 48, "intra_bottleneck_size": 48, "initializer_range": 0.5}, sharpness=1.0),
    *_text(
        "afmoe apertus arcee aria_text biogpt bitnet bloom cohere cohere2 cohere2_moe ctrl cwm doge ernie4_5 ernie4_5_moe"
        " exaone4 exaone_moe flex_olmo gemma gemma2 gemma3_text glm glm4 glm4_moe gpt2 gpt_bigcode gpt_neox gpt_neox_japanese"
        " gpt_oss gpt-sw3 granite granitemoe granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe imagegpt jais2"
        " llama llama4_text minimax minimax_m2 ministral ministral3 mistral mixtral modernbert-decoder mpt nanochat nemotron"
        " olmo olmo2 olmo3 olmo_hybrid olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_moe"
        " seed_oss smollm3 solar_open starcoder2 vaultgemma xglm",
        stacks=_CAUSAL,
    ),
    Member("codegen", {"rotary_dim": 4}, stacks=_CAUSAL),
    Member("gptj", {"rotary_dim": 4}, stacks=_CAUSAL),
    Member("falcon", without=_OWN_HEADS, stacks=_CAUSAL),
    Member("gpt_neo", {"attention_types": [[["global", "local", "global"], 1]], "window_size": 4}, stacks=_CAUSAL),
    Member("stablelm", {"partial_rotary_factor": 0.5}, stacks=_CAUSAL),
    *_text(
        "deepseek_v2 deepseek_v3 glm4_moe_lite minicpm3 mistral4 youtu", config=_LATENT, without=("head_dim",), stacks=_CAUSAL
    ),
    Member("dots1", _ROUTED, stacks=_CAUSAL),
    Member("jetmoe", {"num_key_value_heads": 4}, stacks=_CAUSAL),
    Member("gemma3n_text", {**_BY_LAYER, "laurel_rank": 4, "activation_sparsity_pattern": None}, stacks=_CAUSAL),
    Member("gemma4_text", {**_BY_LAYER, "head_dim": 4, "global_head_dim": 4}, without=_OWN_HEADS, stacks=_CAUSAL),
    Member(
        "mistral3",
        {"image_token_id": 50, "spatial_merge_size": 2},
        parts={"text_config": "mistral", "vision_config": "pixtral"},
        stacks=(("text", "decoder"),),
        inputs={"input_ids": with_image(4), "image_sizes": lambda: torch.tensor([[64, 64]] * BATCH)},
    ),
    *[
        Member(
            name, {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 1e4}}, stacks=_CAUSAL
        )
        for name in ("qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text", "glm4v_text")
    ],
    Member("bamba", {**_MAMBA, "attn_layer_indices": [1]}, stacks=_CAUSAL),
    Member("falcon_h1", {**_MAMBA, "mamba_d_ssm": 96}, stacks=_CAUSAL),
    Member("jamba", {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4}, stacks=_CAUSAL),
    Member("granitemoehybrid", {**_MAMBA, "layer_types": ["mamba", "attention", "attention"]}, stacks=_CAUSAL),
    *_text("lfm2 lfm2_moe", config={"layer_types": ["conv", "full_attention", "full_attention"]}, stacks=_CAUSAL),
    Member("nemotron_h", stacks=_CAUSAL),
    *_text(
        "qwen3_5_moe_text qwen3_5_text qwen3_next",
        config={"layer_types": ["linear_attention", "full_attention", "full_attention"]},
        stacks=_CAUSAL,
    ),
    Member("recurrent_gemma", stacks=_CAUSAL),
    *_text("bart blenderbot m2m_100 mbart mvp nllb-moe pegasus plbart", stacks=ENCODER_DECODER),
    Member("fsmt", {"init_std": 0.5}, stacks=ENCODER_DECODER, sharpness=0.6),
    Member("marian", {"init_std": 0.5}, stacks=ENCODER_DECODER),
    Member("blenderbot-small", stacks=ENCODER_DECODER, sharpness=0.2),
    *_text("mt5 switch_transformers t5 umt5", stacks=ENCODER_DECODER, sharpness=0.1),  # their logits are not scaled down
    *[
        Member(name, prefix=("class",))
        for name in [
            "beit",
            "chinese_clip_vision_model",
            "clip_vision_model",
            "data2vec-vision",
            "internvl_vision",
            "mlcd_vision_model",
            "vit",
            "vit_msn",
            "dinov2",
        ]
    ],
    Member("deit", prefix=("class", "special")),
    Member("dinov2_with_registers", {"num_register_tokens": 4}, prefix=("class", *["register"] * 4)),
    Member("dinov3_vit", {"num_register_tokens": 2}, prefix=("class", "register", "register")),
    Member("yolos", {"image_size": [64, 64], "num_detection_tokens": 5}, prefix=("class",)),
    Member("ijepa"),
    Member("siglip_vision_model", stacks=((None, "encoder"), (None, "pool"))),
    Member("aimv2_vision_model", stacks=((None, "encoder"), (None, "pool"))),
    Member("videomae", {"num_frames": 4}, inputs={"pixel_values": lambda: torch.randn(BATCH, 4, 3, 64, 64)}),
    Member(
        "vivit",
        {"num_frames": 4, "tubelet_size": [2, 16, 16]},
        inputs={"pixel_values": lambda: torch.randn(BATCH, 4, 3, 64, 64)},
        prefix=("class",),
    ),
    *_text("data2vec-audio hubert sew sew-d unispeech unispeech-sat wav2vec2 wav2vec2-conformer"),
    Member("wavlm", averaged=True),
    Member(
        "audio-spectrogram-transformer",
        {"max_length": 64, "num_mel_bins": 32},
        inputs={"input_values": lambda: torch.randn(BATCH, 64, 32)},
        prefix=("class", "special"),
    ),
    Member("t5gemma", stacks=ENCODER_DECODER, parts={"encoder": "t5_gemma_module", "decoder": "t5_gemma_module"}),
    Member("whisper", {"max_source_positions": 50, "max_target_positions": 64}, stacks=ENCODER_DECODER),
    Member(
        "speech_to_text",
        {"max_source_positions": 100, "max_target_positions": 64, "input_feat_per_channel": 80},
        inputs={"input_features": lambda: torch.randn(BATCH, 100, 80)},
        stacks=ENCODER_DECODER,
    ),
    *[
        Member(
            name,
            {"projection_dim": 16, "vision_config+": {"initializer_range": 0.02}},
            parts={"text_config": f"{name}_text_model", "vision_config": f"{name}_vision_model"},
            stacks=TWO_TOWERS,
        )
        for name in ["altclip", "blip", "chinese_clip", "clip", "owlv2", "owlvit"]
    ],
    Member(
        "siglip",
        parts={"text_config": "siglip_text_model", "vision_config": "siglip_vision_model"},
        stacks=(*TWO_TOWERS, ("vision", "pool")),
    ),
    Member(
        "vision-text-dual-encoder",
        {"projection_dim": 16},
        parts={"text_config": "bert", "vision_config": "vit"},
        stacks=TWO_TOWERS,
    ),
    Member(
        "encoder-decoder",
        {"decoder+": {"is_decoder": True, "add_cross_attention": True}},
        parts={"encoder": "bert", "decoder": "bert"},
        stacks=TOWERS_OF_TWO,
        model="EncoderDecoderModel",
    ),
    Member(
        "vision-encoder-decoder",
        {"decoder+": {"add_cross_attention": True}},
        parts={"encoder": "vit", "decoder": "gpt2"},
        stacks=TOWERS_OF_TWO,
        model="VisionEncoderDecoderModel",
    ),
    *[
        Member(
            name,
            {"image_token_id": 50, "image_token_index": 50, **config},
            parts={"text_config": text, "vision_config": vision},
            stacks=(("text", "decoder"), ("vision", "encoder")),
            inputs={"input_ids": with_image(count)} | more,
            sharpness=0.2,
        )
        for name, text, vision, count, config, more in (
            ("llava", "llama", "clip_vision_model", 16, {}, {}),
            ("vipllava", "llama", "clip_vision_model", 16, {"vision_feature_layers": [-1, -2]}, {}),
            ("paligemma", "gemma", "siglip_vision_model", 16, {"projection_dim": WIDTH}, PREFIX_OF_TEXT),
            ("gemma3", "gemma3_text", "siglip_vision_model", 16, {"mm_tokens_per_image": 16}, {}),
            ("internvl", "qwen2", "internvl_vision", 4, {}, {}),
            ("aya_vision", "cohere2", "siglip_vision_model", 4, {"downsample_factor": 2}, {}),
            ("llava_next", "llama", "clip_vision_model", 36, {"image_grid_pinpoints": [[64, 64]]}, _IMAGE_AND_PARTS),
            ("llava_onevision", "qwen2", "siglip_vision_model", 36, {"image_grid_pinpoints": [[64, 64]]}, _IMAGE_AND_PARTS),
        )
    ],
    Member(
        "blip-2",
        {"image_token_index": 50, "num_query_tokens": 4, "qformer_config": _SMALL_QFORMER}
        | {"vision_config+": {"initializer_range": 0.02}},
        parts={"vision_config": "blip_2_vision_model", "text_config": "opt"},
        stacks=(("text", "decoder"), ("vision", "encoder")),
        inputs={"input_ids": with_image(4), "decoder_input_ids": None},
    ),
    *[
        Member(
            name,
            {"image_token_id": 50, "scale_factor": 2, "vision_config": _SMALL_IDEFICS},
            parts={"text_config": "llama"},
            stacks=(("text", "decoder"), ("vision", "encoder")),
            inputs={"input_ids": with_image(4), "pixel_values": lambda: torch.randn(BATCH, 1, 3, 64, 64)},
            sharpness=0.2,
        )
        for name in ("idefics3", "smolvlm")
    ],
    *[
        Member(
            name,
            {"image_token_id": 50, "vision_start_token_id": 51, "vision_config": _SMALL_QWEN | vision},
            parts={"text_config": f"{name}_text"},
            stacks=(("text", "decoder"),),
            inputs={
                "input_ids": with_image(4),
                "pixel_values": lambda: torch.randn(BATCH * 16, 96),
                "image_grid_thw": lambda: torch.tensor([[1, 4, 4]] * BATCH),
                "mm_token_type_ids": lambda: (with_image(4)() == 50).long(),
            },
        )
        for name, vision in (
            ("qwen2_vl", {"embed_dim": 32, "hidden_size": WIDTH}),
            ("qwen2_5_vl", {"hidden_size": 32, "out_hidden_size": WIDTH, "fullatt_block_indexes": [1]}),
            ("qwen3_vl", _SMALL_QWEN_3 | {"deepstack_visual_indexes": [1]}),
            ("qwen3_vl_moe", _SMALL_QWEN_3 | {"deepstack_visual_indexes": [1]}),
            ("qwen3_5", _SMALL_QWEN_3),
            ("qwen3_5_moe", _SMALL_QWEN_3),
            ("glm4v", _SMALL_QWEN_3 | {"intermediate_size": 32}),
        )
    ],
    Member(
        "gemma4",
        {"image_token_id": 50, "video_token_id": 51, "audio_token_id": 52, "vision_config": _SMALL_GEMMA_4}
        | {"audio_config": {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 4}},
        parts={"text_config": "gemma4_text"},
        stacks=(("text", "decoder"),),
        inputs={
            "input_ids": with_image(4),
            "pixel_values": lambda: torch.rand(BATCH, 16, 48),
            "image_position_ids": lambda: torch.cartesian_prod(torch.arange(4), torch.arange(4)).expand(BATCH, -1, -1),
            "mm_token_type_ids": lambda: (with_image(4)() == 50).long(),
            "input_features": None,
        },
    ),
    Member(
        "lfm2_vl",
        {"image_token_id": 50, "downsample_factor": 2, "vision_config": _SMALL_SIGLIP | {"num_patches": 16}},
        parts={"text_config": "lfm2"},
        stacks=(("text", "decoder"),),
        inputs={
            "input_ids": with_image(4),
            "pixel_values": lambda: torch.randn(BATCH, 16, 768),
            "spatial_shapes": lambda: torch.tensor([[4, 4]] * BATCH),
            "pixel_attention_mask": lambda: torch.ones(BATCH, 16),
        },
    ),
]
MEMBERS: Final = {member.model_type: member for member in _MEMBERS}
