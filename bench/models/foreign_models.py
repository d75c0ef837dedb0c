"""What the command line says of models that do not say it themselves, and what was assumed instead."""

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
    of_all: str | None = None
    of_one: dict[Path, str] = {}
    for option in options:
        named = [path for path in paths if option.startswith((f"{path}=", f"{path.name}="))]
        if not named and of_all is not None:
            raise InputError(
                f"--classes {option}: a second list for all models; write MODEL=FILE, with a model "
                f"of this command ({', '.join(path.name for path in paths)})"
            )
        if not named:
            of_all = option
        for path in named:
            if path in of_one:
                raise InputError(f"--classes {option}: a second list for {path}; give one a model")
            prefix = f"{path}=" if option.startswith(f"{path}=") else f"{path.name}="
            of_one[path] = option.removeprefix(prefix)
    files = {path: of_one.get(path, of_all) for path in paths}
    return {path: read_class_list(Path(file)) for path, file in files.items() if file}


def class_lines(models: Sequence[Model], dataset: Dataset) -> list[str]:
    """A sentence for each model without class ids: in which order its scores were taken.

    Raises:
        InputError, Unstated: For a model whose classes are not those of the data.
    """
    lines = []
    for model in models:
        spec = model.runtime.spec
        found = matching(dataset, spec, str(model.path), model.classes_stated)
        if found.assumed:
            lines.append(f"{model.name} {found.assumed}; --classes FILE if that is not its order")
    return lines


def input_lines(models: Sequence[Model]) -> list[str]:
    """The input of weights of other projects, and what is doubtful about it, a line each."""
    lines = []
    for model in models:
        if model.assumed:
            lines += model.assumed.lines(
                str(model.path), "state another with --mean, --std, --channel-order"
            )
    return list(dict.fromkeys(lines))
