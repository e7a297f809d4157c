"""A linear classifier on the features of a backbone, trained by scikit-learn, as a module with its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from attnchain_evals.probes.backbone import Places, Pooling, backbone_of, identity_of, places_of, tokens_of
from attnchain_evals.tasks.class_folder import ClassFolder
from attnchain_evals.tasks.digest import sha256
from attnchain_evals.tasks.examples import batches
from attnchain_interp import AttentionError
from attnchain_interp.files import whole, write_text
from attnchain_interp.reprs import first_problem

SCHEMA: Final = "attnchain-probe/1"
STRENGTHS: Final = tuple(10.0**power for power in range(-4, 3))
"""The values of scikit-learn's C that are tried: small ones regularise more."""
WEIGHTS, RECORD = "probe.safetensors", "probe.json"
_FIX: Final = "Train another probe, in another folder."


@final
class LinearProbe(nn.Module):
    """Images → logits (batch, class): a backbone, its pooled tokens, and one linear layer.

    Capture reads the backbone inside, and all methods explain the classes of the probe. `fit` trains one, `write` and `read`
    keep it.

    Attributes:
        backbone: images → tokens.
        head: the linear layer.
        classes: the names of the classes, in the order of the logits.
        record: what the probe is: classes, pooling, the backbone's identity, the data's, accuracies, C.
    """

    def __init__(self, backbone: nn.Module, places: Places, head: nn.Linear, record: Mapping[str, Any]) -> None:
        super().__init__()
        self.backbone, self.head, self.record, self._places = backbone, head, dict(record), places
        self.classes: tuple[str, ...] = tuple(record["classes"])
        self.eval()

    def extra_repr(self) -> str:
        accuracy = self.record["accuracy"]["validation"]
        return f"{len(self.classes)} classes, pooling={self.record['pooling']!r}, accuracy {accuracy:.3f}"

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self._places.features(tokens_of(self.backbone, images), self.record["pooling"]))

    @classmethod
    def fit(
        cls,
        model: nn.Module,
        train: ClassFolder,
        validation: ClassFolder,
        pooling: Pooling | None = None,
        batch_size: int = 32,
    ) -> LinearProbe:
        """Returns the probe of the classes of `train`.

        It is a multinomial logistic regression on standardised features. The regularisation (`STRENGTHS`) is the one of the
        least cross-entropy on `validation`, and the strongest of equal ones.

        Args:
            model: a vision transformer, with a head or without.
            train: images in the folders of their classes.
            validation: other images of these classes.
            pooling: which tokens are features: the "class" token, the "mean" of the patches, or "class+mean". The class token
                where there is one when None.
            batch_size: images a forward.

        Raises:
            AttentionError: a model that does not return its tokens, fewer than two classes, or a class of `validation` that
                `train` lacks.
        """
        backbone = backbone_of(model)
        image = train[0].image[None].to(next(backbone.parameters()).device)
        places = places_of(backbone, image)
        chosen = places.pooling(pooling)
        numbers = sorted(set(train.labels))
        names, foreign = [train.classes[n] for n in numbers], sorted(set(validation.classes) - set(train.classes))
        if foreign:
            raise AttentionError(
                f"no images to train on are of the classes {', '.join(foreign)}, which the validation has.",
                "Add such images, or leave these classes out of the validation.",
            )
        if len(numbers) < 2:
            raise AttentionError(f"all images to train on are of the class {names[0]}.", "Pass images of two or more.")
        parts = [
            (_features(backbone, places, chosen, data, batch_size), [data.classes[label] for label in data.labels])
            for data in (train, validation)
        ]
        weight, bias, found = _fitted(*parts)
        head = nn.Linear(weight.shape[1], len(names)).to(image)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight))
            head.bias.copy_(torch.from_numpy(bias))
        record = {
            "schema": SCHEMA,
            "classes": names,
            "pooling": chosen,
            "backbone": identity_of(backbone),
            "data": {"train": train.identity, "validation": validation.identity},
            **found,
        }
        return cls(backbone, places, head, record)

    def write(self, folder: str | Path) -> None:
        """Writes `probe.safetensors` (weight and bias of the head) and then `probe.json` (the record, with its digest)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / WEIGHTS) as partial:
            save_file({name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}, partial)
        write_text(folder / RECORD, json.dumps({**self.record, "sha256": sha256(folder / WEIGHTS)}, indent=1))

    @classmethod
    def read(cls, folder: str | Path, model: nn.Module, image: Tensor) -> LinearProbe:
        """Returns the probe of a folder on its backbone.

        Args:
            folder: where `write` put it.
            model: the vision transformer that it was trained on, with any head or without.
            image: (1, channel, height, width) to find the backbone's tokens with.

        Raises:
            AttentionError: no probe, files of another schema or that were changed, or a probe of another backbone.
        """
        record, state = read_files(Path(folder))
        backbone = backbone_of(model)
        own = identity_of(backbone)
        if own != record["backbone"]:
            was, now = (f"{found['class']} with the sha256 {found['sha256']}" for found in (record["backbone"], own))
            raise AttentionError(
                f"the probe of {folder} was trained on {was}, and the backbone is {now}.",
                "Load the backbone of the probe, or train another probe.",
            )
        places, tokens = places_of(backbone, image), tokens_of(backbone, image)
        width = places.features(tokens, places.pooling(record["pooling"])).shape[1]
        if width != state["weight"].shape[1]:
            said = f"{state['weight'].shape[1]} weights of a class, and {width} features by the pooling {record['pooling']!r}"
            raise _damaged(Path(folder), said)
        head = nn.Linear(width, len(record["classes"])).to(image)
        head.load_state_dict(state)
        return cls(backbone, places, head, record)


class _Backbone(BaseModel):
    kind: str = Field(alias="class")
    sha256: str


class _Data(BaseModel):
    train: dict[str, Any]
    validation: dict[str, Any]


class _Accuracy(BaseModel):
    train: float
    validation: float


class _Record(BaseModel):
    """What a record holds, beside its schema."""

    classes: Annotated[list[str], Field(min_length=2)]
    pooling: Pooling
    backbone: _Backbone
    data: _Data
    accuracy: _Accuracy


def read_files(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the record and the weights of the probe that lies in a folder. See `LinearProbe.read` for errors."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found = sha256(folder / WEIGHTS)
    except (OSError, ValueError, RecursionError) as error:
        raise AttentionError(f"{folder} holds no probe ({error}).", _FIX) from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise AttentionError(f"{folder / RECORD} is not of the schema {SCHEMA}.", _FIX)
    if found != (wanted := record.pop("sha256", None)):
        raise AttentionError(f"{folder / WEIGHTS} has the sha256 {found}; {RECORD} names {wanted}.", _FIX)
    try:
        count, state = len(_Record.model_validate(record).classes), load_file(folder / WEIGHTS)
    except (ValidationError, SafetensorError) as error:
        said = first_problem(error) if isinstance(error, ValidationError) else f"{WEIGHTS}: {error}"
        raise _damaged(folder, said) from error
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != {"weight": (count, *shapes.get("weight", ())[1:2]), "bias": (count,)}:
        raise _damaged(folder, f"weights of {shapes} for {count} classes")
    return record, state


def _damaged(folder: Path, said: str) -> AttentionError:
    return AttentionError(f"{folder} holds a damaged probe ({said}).", _FIX)


@torch.no_grad()
def _features(
    backbone: nn.Module, places: Places, pooling: Pooling, data: ClassFolder, batch_size: int
) -> NDArray[np.float64]:
    """Returns the features (image, width) of all images."""
    parameter, found = next(backbone.parameters()), list[Tensor]()
    bar = tqdm(total=len(data), desc="features for the probe", unit="image", disable=None, leave=False)
    with bar:
        for batch in batches(data, batch_size, None, lambda *_: True):
            tokens = tokens_of(backbone, batch.inputs.to(parameter.device))
            found.append(places.features(tokens, pooling).double().cpu())
            bar.update(len(batch.inputs))
    return torch.cat(found).numpy()


def _fitted(
    train: tuple[NDArray[np.float64], Sequence[str]], validation: tuple[NDArray[np.float64], Sequence[str]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, Any]]:
    """Returns weight (class, width) and bias (class,) on features as they are, with C and the accuracies."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train[0])
    standard = scaler.transform(train[0]), scaler.transform(validation[0])
    fits = [LogisticRegression(C=strength, max_iter=2000).fit(standard[0], train[1]) for strength in STRENGTHS]
    losses = [log_loss(validation[1], fit.predict_proba(standard[1]), labels=fit.classes_) for fit in fits]
    best = int(np.argmin(losses))
    fit, scale = fits[best], np.asarray(scaler.scale_)
    weight, bias = fit.coef_ / scale, fit.intercept_ - fit.coef_ @ (np.asarray(scaler.mean_) / scale)
    if len(fit.classes_) == 2:  # scikit-learn gives the second class alone: the logit of the first is zero
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    accuracy = {"train": fit.score(standard[0], train[1]), "validation": fit.score(standard[1], validation[1])}
    return weight, bias, {"C": STRENGTHS[best], "accuracy": accuracy}
