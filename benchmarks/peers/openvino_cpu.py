"""How OpenVINO is told to compute in one precision, and in no other, on a CPU."""

from contract import Skipped, Task

TYPES = {"fp32": "f32", "bf16": "bf16"}


def inference_type(task: Task) -> str:
    """The precision hint. Raises: Skipped for bfloat16 on a CPU without it, where OpenVINO would run float32 without a word."""
    import openvino as ov

    if task.precision == "bf16" and "BF16" not in ov.Core().get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    ):
        raise Skipped(
            "this CPU has no bfloat16 instructions, and OpenVINO would run float32; take one with AVX512_BF16 or AMX"
        )
    return TYPES[task.precision]
