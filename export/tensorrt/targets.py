"""Chooses the GPUs that an engine is for, by the precisions that they run."""

from types import ModuleType

from vgg_deploy.errors import InputError
from vgg_deploy.exported.trt_packages import Flavour

# Least compute capability of each precision's tensor cores. int8-cpu has unsigned activations,
# which TensorRT reads as signed ones
LEAST = {
    "fp32": 75,
    "fp16": 75,
    "bf16": 80,
    "int8": 75,
    "fp8": 89,
    "int4": 75,
    "int8-cpu": None,
    "int4-cpu": None,
}
CPU_ONLY = {name: name.removesuffix("-cpu") for name in LEAST if name.endswith("-cpu")}
GENERATIONS = {
    75: "Turing",
    80: "A100",
    86: "RTX 30",
    89: "Ada",
    90: "Hopper",
    100: "B200",
    120: "RTX 50",
    121: "GB10",
}


def pick_targets(
    flavour: Flavour, trt: ModuleType, requested: tuple[str, ...], precision: str
) -> tuple[str, ...]:
    """Choose the GPUs of one engine.

    Args:
        flavour: Of TensorRT.
        trt: Its module.
        requested: Such as "sm80"; empty: for RTX all that run the precision, for tensorrt the GPU
            of this machine.
        precision: Of the engine.

    Raises:
        InputError: If a target cannot run the precision (with a table), if the flavour does not
            build for a target, or for tensorrt without a GPU.
    """
    if flavour.name == "rtx":
        names = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
        known = tuple(name.lower() for name in names)
    else:
        known = (_target_of_this_machine(requested),)
    for target in requested:
        if target not in known:
            raise InputError(
                f"--target {target}: {flavour.package} {flavour.version()} builds for "
                f"{', '.join(known)}"
            )
    is_free = flavour.name == "rtx" and not requested  # then some of the known are left out
    candidates = requested or known
    refused = [target for target in candidates if not _runs(precision, target)]
    if (refused and not is_free) or len(refused) == len(known):
        error = InputError(f"--precision {precision} is {_reason(precision, refused)}")
        error.details = what_runs_where(known)
        raise error
    return tuple(target for target in candidates if target not in refused)


def _target_of_this_machine(requested: tuple[str, ...]) -> str:
    target = current_gpu_target()
    if requested and requested != (target,):
        raise InputError(
            f"--target {','.join(requested)}: tensorrt builds for the GPU of this machine, "
            f"{target}; build on the target, or use --trt-flavour rtx"
        )
    return target


def _reason(precision: str, refused: list[str]) -> str:
    if LEAST[precision] is None:
        return f"the file of ONNX Runtime's CPU kernels; export --precision {CPU_ONLY[precision]}"
    return f"not on {', '.join(refused)}"


def what_runs_where(known: tuple[str, ...]) -> str:
    """A table of precisions against targets, as text.

    Args:
        known: The targets.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("precision")
    for target in known:
        generation = GENERATIONS.get(_number(target))
        table.add_column(f"{target}\n{generation}" if generation else target, justify="center")
    for precision in LEAST:
        table.add_row(precision, *("yes" if _runs(precision, target) else "-" for target in known))
    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def current_gpu_target() -> str:
    """Compute capability of PyTorch's current GPU, such as "sm80".

    Raises:
        InputError: If there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            "--trt-flavour tensorrt: builds on the GPU that it is for, and PyTorch sees none here; "
            "--trt-flavour rtx builds without one"
        )
    major, minor = torch.cuda.get_device_capability()
    return f"sm{major}{minor}"


def _runs(precision: str, target: str) -> bool:
    least = LEAST[precision]
    return least is not None and _number(target) >= least


def _number(target: str) -> int:
    return int(target.removeprefix("sm"))
