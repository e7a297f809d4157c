"""Metrics of attributions: one class per metric, figures for each example, the interface of torchmetrics."""

from __future__ import annotations

from attnchain_evals.metrics.attribution_metric import AttributionMetric as AttributionMetric
from attnchain_evals.metrics.curves import AOPC as AOPC
from attnchain_evals.metrics.curves import SRG as SRG
from attnchain_evals.metrics.curves import Comprehensiveness as Comprehensiveness
from attnchain_evals.metrics.curves import Deletion as Deletion
from attnchain_evals.metrics.curves import Insertion as Insertion
from attnchain_evals.metrics.curves import ReverseDeletion as ReverseDeletion
from attnchain_evals.metrics.curves import Sufficiency as Sufficiency
from attnchain_evals.metrics.curves import curve_metrics as curve_metrics
from attnchain_evals.metrics.evidence import EvidenceAP as EvidenceAP
from attnchain_evals.metrics.evidence import EvidenceFirst as EvidenceFirst
from attnchain_evals.metrics.evidence import SentenceCorrelation as SentenceCorrelation
from attnchain_evals.metrics.evidence import SentenceHit as SentenceHit
from attnchain_evals.metrics.example_metric import ExampleMetric as ExampleMetric
from attnchain_evals.metrics.example_metric import Trial as Trial
from attnchain_evals.metrics.localisation import EnergyInside as EnergyInside
from attnchain_evals.metrics.localisation import MeanAP as MeanAP
from attnchain_evals.metrics.localisation import MeanIoU as MeanIoU
from attnchain_evals.metrics.localisation import PixelAccuracy as PixelAccuracy
from attnchain_evals.metrics.localisation import PointingGame as PointingGame
from attnchain_evals.metrics.localisation import localisation_metrics as localisation_metrics
from attnchain_evals.metrics.naopc import NAOPC as NAOPC
from attnchain_evals.metrics.presets import OF_TEXT as OF_TEXT
from attnchain_evals.metrics.presets import PRESETS as PRESETS
from attnchain_evals.metrics.presets import TEXT as TEXT
from attnchain_evals.metrics.presets import preset as preset
from attnchain_evals.metrics.presets import text_metrics as text_metrics
from attnchain_evals.metrics.protocol import Protocol as Protocol
from attnchain_evals.metrics.saco import SaCo as SaCo
from attnchain_evals.metrics.subset_metrics import Infidelity as Infidelity
from attnchain_evals.metrics.subset_metrics import SensitivityN as SensitivityN
