"""Classes and input of models that do not state them: from the command line, else assumed."""

from collections.abc import Sequence
from pathlib import Path

from bench.models.model import Model
from vgg_deploy.data.class_labels import matching
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import ClassList, read_class_list
from vgg_deploy.net.named_weights import Located, locate


def class_lists(options: Sequence[str], models: Sequence[Path | Located]) -> dict[Path, ClassList]:
    """The class list of each model that has one.

    Args:
        options: Values of --classes: FILE for all models, or MODEL=FILE for one, named as on the
            command line, by its path or by its file name.
        models: The models.

    Returns:
        By the path of the model's file.

    Raises:
        InputError: For a file that is no class list, or two lists for one model.
    """
    found = [locate(model) for model in models]
    for_all: str | None = None
    for_one: dict[Path, str] = {}
    for option in options:
        named = [model for model in found if _prefix(option, model)]
        if not named:
            if for_all is not None:
                raise InputError(
                    f"--classes {option}: a second list for all models; write MODEL=FILE, with a "
                    f"model of this command ({', '.join(model.name for model in found)})"
                )
            for_all = option
        for model in named:
            if model.path in for_one:
                raise InputError(
                    f"--classes {option}: a second list for {model.given}; give one per model"
                )
            for_one[model.path] = option.removeprefix(_prefix(option, model))
    files = {model.path: for_one.get(model.path, for_all) for model in found}
    return {path: read_class_list(Path(file)) for path, file in files.items() if file}


def _prefix(option: str, model: Located) -> str:
    """How an option names a model; empty if it does not name it."""
    prefixes = (f"{model.given}=", f"{model.path}=", f"{model.name}=")
    return next((prefix for prefix in prefixes if option.startswith(prefix)), "")


def class_lines(models: Sequence[Model], dataset: Dataset) -> list[str]:
    """One sentence per model without class ids: in which order its scores were taken.

    Args:
        models: All models of the run.
        dataset: The images of the run.

    Raises:
        InputError: For a model whose classes are not those of the data.
    """
    lines = []
    for model in models:
        spec = model.runtime.spec
        found = matching(dataset, spec, str(model.path), model.classes_stated)
        if found.assumed:
            lines.append(f"{model.name} {found.assumed}; --classes FILE if that is not its order")
    return lines


def input_lines(models: Sequence[Model]) -> list[str]:
    """Sentences about the input of weights of other projects, and what is doubtful about it.

    Args:
        models: All models of the run.
    """
    how_to_state = "state another with --mean, --std, --channel-order"
    lines = []
    for model in models:
        if model.assumed:
            lines += model.assumed.lines(str(model.path), how_to_state)
    return list(dict.fromkeys(lines))
