"""Classes and input of models that do not state them: from the command line, else assumed."""

from collections.abc import Sequence
from pathlib import Path

from bench.models.model import Model
from vgg_deploy.data.class_labels import matching
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import ClassList, read_class_list


def class_lists(options: Sequence[str], paths: Sequence[Path]) -> dict[Path, ClassList]:
    """The class list of each model that has one.

    Args:
        options: Values of --classes: FILE for all models, or MODEL=FILE for one, named by its path
            or its file name.
        paths: Of the models.

    Raises:
        InputError: For a file that is no class list, or two lists for one model.
    """
    for_all: str | None = None
    for_one: dict[Path, str] = {}
    for option in options:
        named = [path for path in paths if _prefix(option, path)]
        if not named:
            if for_all is not None:
                raise InputError(
                    f"--classes {option}: a second list for all models; write MODEL=FILE, with a "
                    f"model of this command ({', '.join(path.name for path in paths)})"
                )
            for_all = option
        for path in named:
            if path in for_one:
                raise InputError(
                    f"--classes {option}: a second list for {path}; give one per model"
                )
            for_one[path] = option.removeprefix(_prefix(option, path))
    files = {path: for_one.get(path, for_all) for path in paths}
    return {path: read_class_list(Path(file)) for path, file in files.items() if file}


def _prefix(option: str, path: Path) -> str:
    """How an option names a model, by path or file name; empty if it does not name it."""
    prefixes = (f"{path}=", f"{path.name}=")
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
