"""Which GPUs an engine is for, and which precision runs where."""

from types import ModuleType

from vgg_deploy.errors import InputError
from vgg_deploy.exported.trt_packages import Flavour

# Least compute capability of each precision's tensor cores; int8-cpu has unsigned activations, which TensorRT reads as signed ones
LEAST = {"fp32": 75, "fp16": 75, "bf16": 80, "int8": 75, "fp8": 89, "int8-cpu": None}
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
    flavour: Flavour, trt: ModuleType, wanted: tuple[str, ...], precision: str
) -> tuple[str, ...]:
    """ "sm80", ... for one engine: those asked for, else for RTX all that run the precision, for tensorrt the GPU at hand.

    Raises: InputError with a table for a precision that a target cannot run, a target that the flavour does not build for, or
        tensorrt without a GPU.
    """
    here = None
    if flavour.name == "rtx":
        known = tuple(
            name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")
        )
    else:
        known = here = (current_gpu_target(),)
        if wanted and wanted != here:
            raise InputError(
                f"--target {','.join(wanted)}: tensorrt builds for the GPU at hand, {here[0]}; build on the target, or use --trt-flavour rtx"
            )
    for target in wanted:
        if target not in known:
            raise InputError(
                f"--target {target}: {flavour.package} {flavour.version()} builds for {', '.join(known)}"
            )
    asked = wanted or here
    refused = [target for target in asked or known if not _runs(precision, target)]
    if asked and refused or len(refused) == len(known):
        reason = (
            "the file of ONNX Runtime's CPU kernels; export --precision int8"
            if LEAST[precision] is None
            else f"not on {', '.join(refused)}"
        )
        raise InputError(f"--precision {precision} is {reason}\n\n{what_runs_where(known)}")
    return asked or tuple(target for target in known if target not in refused)


def what_runs_where(known: tuple[str, ...]) -> str:
    """Precisions against targets, as text."""
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
    """Compute capability of PyTorch's current GPU. Raises: InputError without one."""
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            "--trt-flavour tensorrt: builds on the GPU that it is for, and PyTorch sees none here; --trt-flavour rtx builds without one"
        )
    return "sm{}{}".format(*torch.cuda.get_device_capability())


def _runs(precision: str, target: str) -> bool:
    return LEAST[precision] is not None and _number(target) >= LEAST[precision]


def _number(target: str) -> int:
    return int(target.removeprefix("sm"))
