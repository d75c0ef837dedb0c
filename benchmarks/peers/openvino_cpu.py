"""Chooses the precision hint that makes OpenVINO compute in one precision on a CPU."""

from contract import Skipped, Task

TYPES = {"fp32": "f32", "bf16": "bf16"}


def inference_type(task: Task) -> str:
    """The precision hint of a task.

    Raises:
        Skipped: For bfloat16 on a CPU without it, where OpenVINO would silently run float32.
    """
    import openvino as ov

    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if task.precision == "bf16" and "BF16" not in capabilities:
        raise Skipped(
            "this CPU has no bfloat16 instructions, and OpenVINO would run float32; "
            "use one with AVX512_BF16 or AMX"
        )
    return TYPES[task.precision]
