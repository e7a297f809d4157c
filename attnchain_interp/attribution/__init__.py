"""Captum attribution methods that read attention, contributions or gradients; and `TextAttribution` for all of them."""

from attnchain_interp.attribution.defaults import DEFAULTS, Defaults, Settings, settings_of
from attnchain_interp.attribution.description import described
from attnchain_interp.attribution.embeddings import changed_embeddings, embedding_of, mean_embedding
from attnchain_interp.attribution.hidden_tokens import HiddenTokens
from attnchain_interp.attribution.method import Method
from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.of_a_class.attn_lrp import AttnLRP
from attnchain_interp.attribution.of_a_class.gradient_attention import GradELLM, GradientAttention, LeGrad
from attnchain_interp.attribution.of_a_class.gradient_rollouts import GMAR, GradientRollout, TransitionAttentionMaps
from attnchain_interp.attribution.of_a_class.gradient_walks import (
    ExpectedVisits,
    GradientMultiBounce,
    GradientTokenRank,
    gradient_chain,
)
from attnchain_interp.attribution.of_a_class.integrated_gradients import IntegratedGradients
from attnchain_interp.attribution.of_a_class.logit_token_rank import AnswerEffects, LogitTokenRank
from attnchain_interp.attribution.of_a_class.token_perturbation import LeaveOneOut, ShapleyValues, TokenPerturbation
from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.attribution.of_attention.attention_flow import AttentionFlow
from attnchain_interp.attribution.of_attention.baselines import ColumnSum, RandomRanking, RawAttention, WeightedPageRank
from attnchain_interp.attribution.of_attention.metastable_states import MetastableStates
from attnchain_interp.attribution.of_attention.rollout import Rollout
from attnchain_interp.attribution.of_attention.walks import MultiBounce, TokenRank
from attnchain_interp.attribution.text.cross_attention import cross_attention
from attnchain_interp.attribution.text.prompt import prompt_of
from attnchain_interp.attribution.text.result import TextAttributionResult
from attnchain_interp.attribution.text.sentences import sentences_of
from attnchain_interp.attribution.text.text_attribution import TextAttribution
from attnchain_interp.attribution.token_ablation import TokenAblation
from attnchain_interp.attribution.token_attribution import TokenAttribution

__all__ = [
    "DEFAULTS",
    "GMAR",
    "AnswerEffects",
    "AttentionAttribution",
    "AttentionFlow",
    "AttentionGradientAttribution",
    "AttnLRP",
    "changed_embeddings",
    "ColumnSum",
    "cross_attention",
    "Defaults",
    "described",
    "embedding_of",
    "ExpectedVisits",
    "GradELLM",
    "gradient_chain",
    "GradientAttention",
    "GradientMultiBounce",
    "GradientRollout",
    "GradientTokenRank",
    "HiddenTokens",
    "IntegratedGradients",
    "LeaveOneOut",
    "LeGrad",
    "LogitTokenRank",
    "mean_embedding",
    "MetastableStates",
    "Method",
    "MultiBounce",
    "prompt_of",
    "RandomRanking",
    "RawAttention",
    "Rollout",
    "sentences_of",
    "Settings",
    "settings_of",
    "ShapleyValues",
    "TextAttribution",
    "TextAttributionResult",
    "TokenAblation",
    "TokenAttribution",
    "TokenPerturbation",
    "TokenRank",
    "TransitionAttentionMaps",
    "WeightedPageRank",
]
