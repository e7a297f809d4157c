"""Captum attribution methods that read attention."""

from attnchain_interp.attribution.attention_attribution import AttentionAttribution
from attnchain_interp.attribution.attention_flow import AttentionFlow
from attnchain_interp.attribution.attention_gradient_attribution import AttentionGradientAttribution
from attnchain_interp.attribution.column_sum import ColumnSum
from attnchain_interp.attribution.contribution_rollout import ContributionRollout
from attnchain_interp.attribution.expected_visits import ExpectedVisits
from attnchain_interp.attribution.gmar import GMAR
from attnchain_interp.attribution.gradient_attention import GradientAttention
from attnchain_interp.attribution.gradient_multi_bounce import GradientMultiBounce
from attnchain_interp.attribution.gradient_rollout import GradientRollout
from attnchain_interp.attribution.gradient_token_rank import GradientTokenRank
from attnchain_interp.attribution.le_grad import LeGrad
from attnchain_interp.attribution.metastable_states import MetastableStates
from attnchain_interp.attribution.multi_bounce import MultiBounce
from attnchain_interp.attribution.random_ranking import RandomRanking
from attnchain_interp.attribution.raw_attention import RawAttention
from attnchain_interp.attribution.rollout import Rollout
from attnchain_interp.attribution.text.result import TextAttributionResult
from attnchain_interp.attribution.token_rank import TokenRank
from attnchain_interp.attribution.transition_attention_maps import TransitionAttentionMaps
from attnchain_interp.attribution.weighted_page_rank import WeightedPageRank

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
    "TokenRank",
    "WeightedPageRank",
    "TransitionAttentionMaps",
]
