"""Captum attribution methods that read attention."""

from attnchain_interp.attribution.attention_attribution import AttentionAttribution
from attnchain_interp.attribution.attention_flow import AttentionFlow
from attnchain_interp.attribution.column_sum import ColumnSum
from attnchain_interp.attribution.metastable_states import MetastableStates
from attnchain_interp.attribution.multi_bounce import MultiBounce
from attnchain_interp.attribution.random_ranking import RandomRanking
from attnchain_interp.attribution.raw_attention import RawAttention
from attnchain_interp.attribution.rollout import Rollout
from attnchain_interp.attribution.token_rank import TokenRank
from attnchain_interp.attribution.weighted_page_rank import WeightedPageRank

__all__ = [
    "AttentionAttribution",
    "AttentionFlow",
    "ColumnSum",
    "MetastableStates",
    "MultiBounce",
    "RandomRanking",
    "RawAttention",
    "Rollout",
    "TokenRank",
    "WeightedPageRank",
]
