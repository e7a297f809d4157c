"""The table of transformers' families, by `config.model_type`: the layout of their sequences, or the reason of a refusal.

Every family here is built small and proved by `tests/adapters`; what is in neither table has not been tried and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, final

from attnchain_interp import Role

Sequence = Literal["text", "image", "audio", "spectrogram", "video", "several"]


@final
@dataclass(frozen=True)
class Family:
    """The layout of the sequence of a family.

    Attributes:
        sequence: what its tokens are. "several": the model is made of towers, which are families of their own.
        causal: whether it is a decoder without an encoder.
        prefix: tokens before the others. In text, a class token is the first that is not padding: the one its head reads.
        suffix: what the configuration calls the number of special tokens after the others.
        any_size: whether it takes images of any size.
        remark: for the table of models.
    """

    sequence: Sequence
    causal: bool = False
    prefix: tuple[Role, ...] = ()
    suffix: str | None = None
    any_size: bool = False
    remark: str = ""


_CLASS: Final = (Role.CLASS,)


def _all(names: str, family: Family) -> dict[str, Family]:
    return dict.fromkeys(names.split(), family)


MADE_CAUSAL: Final = frozenset(
    (
        *("bert", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert", "roberta"),
        *("roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    )
)
"""Encoders that `is_decoder` of their configuration makes causal. Others have the field and do not read it."""

FAMILIES: Final[dict[str, Family]] = {
    # Text, whose first token is the one that is classified.
    **_all(
        "albert bert camembert data2vec-text deberta deberta-v2 distilbert electra ernie eurobert gte ibert"
        " jina_embeddings_v3 layoutlm luke markuplm megatron-bert mobilebert modernbert mpnet nomic_bert rembert roberta"
        " roberta-prelayernorm roc_bert roformer splinter tapas xlm-roberta xlm-roberta-xl xmod",
        Family("text", prefix=_CLASS),
    ),
    **_all("convbert", Family("text", prefix=_CLASS, remark="the half of its heads that attends; the other convolves")),
    **_all("chinese_clip_text_model", Family("text", prefix=_CLASS)),
    **_all("altclip_text_model bert-generation dpr esm esmc flaubert xlm", Family("text")),
    **_all("blip_text_model clip_text_model owlvit_text_model owlv2_text_model", Family("text")),
    **_all("siglip_text_model", Family("text", remark="its head reads the last token")),
    # Causal decoders.
    **_all(
        "afmoe apertus arcee aria_text biogpt bitnet bloom codegen cohere cohere2 cohere2_moe ctrl cwm deepseek_v2"
        " deepseek_v3 doge dots1 ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon flex_olmo gemma gemma3_text gemma3n_text"
        " gemma4_text glm glm4 glm4_moe glm4_moe_lite glm4v_text gpt2 gpt_bigcode gpt_neo gpt_neox gpt_neox_japanese gpt-sw3"
        " gptj granite granitemoe granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe imagegpt jais2 jetmoe llama"
        " llama4_text minicpm3 minimax_m2 ministral ministral3 mistral mistral4 mixtral modernbert-decoder mpt nanochat"
        " nemotron olmo olmo2 olmo3 olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen2_5_vl_text qwen2_moe"
        " qwen2_vl_text qwen3 qwen3_moe qwen3_vl_moe_text qwen3_vl_text seed_oss smollm3 solar_open stablelm starcoder2 xglm"
        " youtu",
        Family("text", causal=True),
    ),
    **_all("gemma2 vaultgemma", Family("text", causal=True, remark="soft-capped logits")),
    **_all("gpt_oss", Family("text", causal=True, remark="a sink in the softmax: rows sum to less than one")),
    **_all(
        "bamba falcon_h1 granitemoehybrid jamba lfm2 lfm2_moe minimax nemotron_h olmo_hybrid qwen3_5_moe_text qwen3_5_text"
        " qwen3_next recurrent_gemma",
        Family("text", causal=True, remark="hybrid: the attention layers alone, under their own names"),
    ),
    # Encoder–decoders of text.
    **_all(
        "bart blenderbot blenderbot-small fsmt m2m_100 marian mbart mt5 mvp nllb-moe pegasus plbart switch_transformers t5"
        " t5_gemma_module t5gemma umt5",
        Family("text"),
    ),
    # Images.
    **_all(
        "altclip_vision_model beit blip_2_vision_model blip_vision_model chinese_clip_vision_model clip_vision_model"
        " data2vec-vision internvl_vision mlcd_vision_model owlv2_vision_model owlvit_vision_model vit vit_msn",
        Family("image", prefix=_CLASS),
    ),
    **_all("deit", Family("image", prefix=(Role.CLASS, Role.SPECIAL))),
    **_all("dinov2 dinov2_with_registers dinov3_vit", Family("image", prefix=_CLASS, any_size=True)),
    **_all("yolos", Family("image", prefix=_CLASS, suffix="num_detection_tokens", any_size=True)),
    **_all("ijepa", Family("image")),
    **_all("idefics3_vision smolvlm_vision", Family("image", any_size=True)),
    **_all("aimv2_vision_model siglip_vision_model", Family("image", remark='a pooling head, by kind="pool"')),
    **_all("videomae", Family("video")),
    **_all("vivit", Family("video", prefix=_CLASS)),
    # Sound.
    **_all("data2vec-audio hubert sew sew-d unispeech unispeech-sat wav2vec2 wav2vec2-conformer", Family("audio")),
    **_all("wavlm", Family("audio", remark="its own output_attentions are averaged over heads")),
    **_all("audio-spectrogram-transformer", Family("spectrogram", prefix=(Role.CLASS, Role.SPECIAL))),
    **_all("speech_to_text whisper", Family("audio")),
    # Models of several towers.
    **_all("altclip blip blip-2 chinese_clip clip owlv2 owlvit siglip vision-text-dual-encoder", Family("several")),
    **_all(
        "aya_vision gemma3 gemma4 glm4v idefics3 internvl lfm2_vl llava llava_next llava_onevision mistral3 paligemma"
        " qwen2_5_vl qwen2_vl qwen3_5 qwen3_5_moe qwen3_vl qwen3_vl_moe smolvlm vipllava",
        Family("several", remark="text tower: tokens of images and videos have the role patch"),
    ),
    **_all("encoder-decoder vision-encoder-decoder", Family("several")),
}

REFUSED: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("swin", "swinv2", "swin2sr", "maskformer-swin", "donut-swin", "sam_vision_model", "vitdet"),
        "attends within windows, which are folded into the batch; a walk over the image cannot cross them",
    ),
    **dict.fromkeys(("hiera", "sam2_hiera_det_model"), "attends within mask units and pools its queries"),
    **dict.fromkeys(("dinat",), "attends to neighbourhoods only, by a kernel that shows no map"),
    **dict.fromkeys(
        ("pvt", "pvt_v2", "segformer", "glpn", "cvt", "levit"),
        "attends to a reduced set of keys, so its maps are rectangular",
    ),
    **dict.fromkeys(("mobilevit", "mobilevitv2"), "folds parts of patches into the batch"),
    **dict.fromkeys(
        (
            *("glm4v_vision", "qwen2_5_vl_vision", "qwen2_vl_vision", "qwen3_5_moe_vision", "qwen3_5_vision"),
            *("qwen3_vl_moe_vision", "qwen3_vl_vision"),
        ),
        "packs the patches of all images into one sequence, in blocks and not row by row, and attends within each image or"
        " window by itself",
    ),
    **dict.fromkeys(
        ("pixtral",), "packs the patches of all images into one sequence, and attends within each image by itself"
    ),
    **dict.fromkeys(("timesformer",), "attends in time and in space by turns, the other folded into the batch"),
    **dict.fromkeys(("swiftformer",), "has no attention from token to token at full resolution"),
    **dict.fromkeys(("longformer", "led"), "attends within a band, held as a band and not as a map"),
    **dict.fromkeys(("big_bird", "bigbird_pegasus", "longt5", "pegasus_x"), "attends sparsely by blocks, which are not a map"),
    **dict.fromkeys(("reformer", "yoso", "mra"), "attends by hashing or a multi-resolution approximation; there is no map"),
    **dict.fromkeys(("nystromformer",), "approximates its map by landmarks; there is no row-stochastic map"),
    **dict.fromkeys(("canine", "funnel", "perceiver"), "changes the number of tokens from layer to layer"),
    **dict.fromkeys(("zamba", "zamba2"), "runs one attention module several times in a forward, each time as another layer"),
    **dict.fromkeys(("fnet",), "mixes tokens by a Fourier transform; there is no attention"),
    **dict.fromkeys(
        ("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"), "is recurrent; there is no attention, so no transition matrix"
    ),
    **dict.fromkeys(("diffllama",), "subtracts one map from another, so entries are negative"),
    **dict.fromkeys(("lilt",), "sums the logits of two streams; neither stream's map is the whole"),
    **dict.fromkeys(("vit_mae",), "drops and shuffles patches at random, so tokens have no place in the image"),
    **dict.fromkeys(("prophetnet",), "attends over several streams of predicted tokens at once"),
    **dict.fromkeys(("xlnet",), "attends with a permuted or a remembered sequence beside the input"),
    **dict.fromkeys(("convnext", "convnextv2", "resnet", "regnet", "poolformer", "focalnet"), "has no attention"),
}
