"""What `import vgg_deploy` offers, for type checkers; __init__.py finds it when it is used."""

from bench.python import check as check
from bench.python import evaluate as evaluate
from export.python import export as export
from vgg_deploy.data.dataset import Dataset as Dataset
from vgg_deploy.data.open_data import open_data as open_data
from vgg_deploy.net.costs import macs as macs
from vgg_deploy.predict.model import Model as Model
from vgg_deploy.predict.model import load as load
from vgg_deploy.predict.predictions import Predictions as Predictions

__version__: str

def doctor(runtimes: tuple[str, ...] = (), device: str | None = None) -> dict[str, object]: ...

__all__ = [
    "Dataset",
    "Model",
    "Predictions",
    "check",
    "doctor",
    "evaluate",
    "export",
    "load",
    "macs",
    "open_data",
]
