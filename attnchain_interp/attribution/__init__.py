"""Captum attribution methods that read attention."""

from attnchain_interp.attribution.of_a_class.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.of_a_class.expected_visits import ExpectedVisits
from attnchain_interp.attribution.of_a_class.gmar import GMAR
from attnchain_interp.attribution.of_a_class.gradient_attention import GradientAttention
from attnchain_interp.attribution.of_a_class.gradient_chain import gradient_chain as gradient_chain
from attnchain_interp.attribution.of_a_class.gradient_multi_bounce import GradientMultiBounce
from attnchain_interp.attribution.of_a_class.gradient_rollout import GradientRollout
from attnchain_interp.attribution.of_a_class.gradient_token_rank import GradientTokenRank
from attnchain_interp.attribution.of_a_class.le_grad import LeGrad
from attnchain_interp.attribution.of_a_class.transition_attention_maps import TransitionAttentionMaps
from attnchain_interp.attribution.of_attention.attention_attribution import AttentionAttribution
from attnchain_interp.attribution.of_attention.attention_flow import AttentionFlow
from attnchain_interp.attribution.of_attention.column_sum import ColumnSum
from attnchain_interp.attribution.of_attention.contribution_rollout import ContributionRollout
from attnchain_interp.attribution.of_attention.metastable_states import MetastableStates
from attnchain_interp.attribution.of_attention.multi_bounce import MultiBounce
from attnchain_interp.attribution.of_attention.random_ranking import RandomRanking
from attnchain_interp.attribution.of_attention.raw_attention import RawAttention
from attnchain_interp.attribution.of_attention.rollout import Rollout
from attnchain_interp.attribution.of_attention.token_rank import TokenRank
from attnchain_interp.attribution.of_attention.weighted_page_rank import WeightedPageRank
from attnchain_interp.attribution.text.result import TextAttributionResult
from attnchain_interp.attribution.token_attribution import TokenAttribution

__all__ = [
    "GMAR",
    "AttentionAttribution",
    "AttentionFlow",
    "AttentionGradientAttribution",
    "ColumnSum",
    "ContributionRollout",
    "ExpectedVisits",
    "GradientAttention",
    "GradientMultiBounce",
    "GradientRollout",
    "GradientTokenRank",
    "LeGrad",
    "MetastableStates",
    "MultiBounce",
    "RandomRanking",
    "RawAttention",
    "Rollout",
    "TextAttributionResult",
    "TokenAttribution",
    "TokenRank",
    "WeightedPageRank",
    "TransitionAttentionMaps",
]
