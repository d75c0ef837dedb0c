"""How sessions of ONNX Runtime are set up, wherever they are opened. Needs no PyTorch."""

from types import ModuleType
from typing import Any

from vgg_deploy.cache import cache_folder, writable_folder

PROVIDERS = {  # by runtime and device
    ("onnxruntime", "cpu"): "CPUExecutionProvider",
    ("onnxruntime", "cuda"): "CUDAExecutionProvider",
    ("onnxruntime-tensorrt", "cuda"): "TensorrtExecutionProvider",
    ("onnxruntime-rtx", "cuda"): "NvTensorRTRTXExecutionProvider",  # a plug-in
}


def session_options(
    ort: ModuleType, device: str, threads: int, optimisation: str = "ENABLE_ALL", arena: bool = True
) -> Any:
    """Options of a session.

    Args:
        ort: onnxruntime.
        device: "cpu" or "cuda".
        threads: On the CPU.
        optimisation: ONNX Runtime's own word, ENABLE_ALL or ENABLE_EXTENDED.
        arena: Keep the memory of activations for the next call. Without it as little memory and
            processor time are used as can be: stored 8-bit values are dequantized once, other
            types are converted right before their use, and threads sleep while they wait.

    Returns:
        An onnxruntime.SessionOptions.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{optimisation}")
    options.enable_cpu_mem_arena = arena
    if not arena:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # failures come back as exceptions
    if device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def session_settings(runtime: str, device: str, optimisation: str = "ENABLE_ALL") -> dict[str, str]:
    """Options of a session that can change results.

    Args:
        runtime: As in PROVIDERS.
        device: As in PROVIDERS.
        optimisation: As in `session_options`.
    """
    return {"provider": PROVIDERS[runtime, device], "graph_optimization": optimisation}


def provider_options(provider: str) -> dict[str, str]:
    """Options of a provider, by name.

    Args:
        provider: One of PROVIDERS.
    """
    match provider:
        case "CUDAExecutionProvider":
            return {"use_tf32": "0"}  # float32 means float32 here
        case "TensorrtExecutionProvider":
            engines = writable_folder(cache_folder() / "onnxruntime-tensorrt")
            return {
                "trt_engine_cache_enable": "1",
                "trt_timing_cache_enable": "1",
                "trt_engine_cache_path": str(engines),
            }
    return {}
