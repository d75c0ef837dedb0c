"""Describes the CPU and the GPUs, and what the CPU's instructions mean for 8-bit files."""

import platform
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from vgg_deploy.machine import (
    available_cores,
    cpu_instructions,
    cpu_model,
    driver_version,
    total_memory_bytes,
)

DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
HALF = ("avx512_bf16", "amx_bf16", "avx512_fp16", "asimdhp")
QUERY = ("name", "memory.total", "driver_version", "compute_cap")
LONGEST_S = 20


def cpu() -> dict[str, Any]:
    """Model, cores, memory and instructions of the CPU."""
    instructions = cpu_instructions()
    return {
        "model": cpu_model() or platform.machine(),
        "cores": available_cores(),
        "memory_bytes": total_memory_bytes(),
        "instructions": instructions,
        "int8": int8_advice(instructions),
        "half_precision": [name for name in instructions if name in HALF],
    }


def int8_advice(instructions: Sequence[str]) -> str:
    """What a CPU's instructions mean for int8-cpu files, in one sentence.

    Args:
        instructions: Names as Linux writes them; empty if the system does not report them.
    """
    if not instructions:
        return "this system does not report its instructions; measure int8-cpu against fp32"
    found = [name for name in instructions if name in DOT_PRODUCTS]
    if found:
        return f"fast: 8-bit dot products in hardware ({', '.join(found)})"
    if "avx2" in instructions or "asimd" in instructions:
        return (
            "works, with less gain: no 8-bit dot products (VNNI); int8-cpu files give the same "
            "scores, as their weights have 7 bits"
        )
    return "slow: neither AVX2 nor 8-bit dot products; use fp32"


def gpus() -> dict[str, Any]:
    """Driver and GPUs of NVIDIA, as nvidia-smi lists them."""
    driver = driver_version()
    program = shutil.which("nvidia-smi")
    if not program:
        why = "no driver is loaded" if driver is None else "nvidia-smi is missing"
        return {"driver": driver, "gpus": [], "why_none": f"no NVIDIA GPU: {why}"}
    command = [program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"driver": driver, "gpus": [], "why_none": f"nvidia-smi fails: {error}"}
    if done.returncode:
        reason = (done.stdout + done.stderr).strip().splitlines() or ["it wrote nothing"]
        return {"driver": driver, "gpus": [], "why_none": f"nvidia-smi fails: {reason[0]}"}
    found = [
        dict(zip(QUERY, (field.strip() for field in line.split(",")), strict=False))
        for line in done.stdout.splitlines()
    ]
    return {"driver": driver, "gpus": found, "why_none": "" if found else "nvidia-smi lists none"}
