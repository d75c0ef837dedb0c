"""Runs the tiny net in one runtime: `python -m vgg_deploy.checkup.trial RUNTIME DEVICE`.

It is a process of its own, because a broken runtime may crash. The last line on standard output is
the result as JSON; the exit code of a failure is 1.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vgg_deploy.checkup import tiny_net
from vgg_deploy.errors import VGGDeployError
from vgg_deploy.exported.trt_packages import FLAVOURS, collecting_logger, errors_of
from vgg_deploy.runtimes.packages import runtime_package
from vgg_deploy.runtimes.plugins import RTX, add_plugin, is_plugin


def run_torch(device: str) -> np.ndarray:
    """In PyTorch."""
    import torch

    with torch.inference_mode():
        return _numpy(tiny_net.as_torch(device)(torch.from_numpy(tiny_net.image()).to(device)))


def run_compiled(device: str) -> np.ndarray:
    """In PyTorch through torch.compile."""
    import torch

    net: Any = torch.compile(tiny_net.as_torch(device))
    with torch.inference_mode():
        return _numpy(net(torch.from_numpy(tiny_net.image()).to(device)))


def run_onnxruntime(device: str) -> np.ndarray:
    """In ONNX Runtime, on the CPU or on CUDA."""
    return _in_onnxruntime("CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider")


def run_onnxruntime_tensorrt(device: str) -> np.ndarray:
    """In ONNX Runtime through TensorRT."""
    return _in_onnxruntime("TensorrtExecutionProvider")


def run_onnxruntime_rtx(device: str) -> np.ndarray:
    """In ONNX Runtime through TensorRT for RTX."""
    return _in_onnxruntime(RTX)


def run_openvino(device: str) -> np.ndarray:
    """In OpenVINO, in float32."""
    return _in_openvino("f32")


def run_openvino_bf16(device: str) -> np.ndarray:
    """In OpenVINO, in bfloat16."""
    return _in_openvino("bf16")


def run_ncnn(device: str) -> np.ndarray:
    """In ncnn."""
    return _in_ncnn(bfloat16=False)


def run_ncnn_bf16(device: str) -> np.ndarray:
    """In ncnn, in bfloat16."""
    return _in_ncnn(bfloat16=True)


def run_tensorrt(device: str) -> np.ndarray:
    """In TensorRT."""
    return _in_engine("tensorrt")


def run_rtx(device: str) -> np.ndarray:
    """In TensorRT for RTX."""
    return _in_engine("rtx")


RUNS: dict[str, Callable[[str], np.ndarray]] = {
    "torch": run_torch,
    "torch-compile": run_compiled,
    "onnxruntime": run_onnxruntime,
    "onnxruntime-tensorrt": run_onnxruntime_tensorrt,
    "onnxruntime-rtx": run_onnxruntime_rtx,
    "openvino": run_openvino,
    "openvino-bf16": run_openvino_bf16,
    "ncnn": run_ncnn,
    "ncnn-bf16": run_ncnn_bf16,
    "tensorrt": run_tensorrt,
    "tensorrt-rtx": run_rtx,
}


def trial(runtime: str, device: str) -> str:
    """Run the tiny net.

    Args:
        runtime: A key of RUNS.
        device: "cpu" or "cuda".

    Returns:
        What is wrong; empty if it works.
    """
    try:
        runtime_package(runtime)
        posterior = RUNS[runtime](device).reshape(-1)
    except VGGDeployError as error:
        return error.message
    except Exception as error:  # whatever a broken installation raises is the result
        first = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {first}"[:300]
    difference = float(np.abs(posterior - tiny_net.expected()).max())
    in_float32 = not runtime.endswith("-bf16")
    allowed = tiny_net.TOLERANCE if in_float32 else tiny_net.BFLOAT16_TOLERANCE
    if not difference <= allowed:
        return f"its posterior is off by {difference:.2g}, allowed {allowed:g}"
    return ""


def _in_onnxruntime(provider: str) -> np.ndarray:
    import onnxruntime as ort

    if provider != "CPUExecutionProvider":
        ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    providers = [provider]
    if is_plugin(provider):
        add_plugin(ort, options, provider)
        providers = []
    session = ort.InferenceSession(
        tiny_net.as_onnx(), options, providers=providers, enable_fallback=0
    )
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"ONNX Runtime fell back to {session.get_providers()[0]}")
    return np.asarray(session.run(None, {"image": tiny_net.image()})[0])


def _in_ncnn(bfloat16: bool) -> np.ndarray:
    from vgg_deploy.runtimes.ncnn_loading import load_ncnn

    ncnn = load_ncnn()
    net = ncnn.Net()
    net.opt.use_bf16_storage = net.opt.use_bf16_packed = bfloat16
    with tempfile.TemporaryDirectory() as folder:
        param, weights = tiny_net.write_ncnn(Path(folder))
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise RuntimeError("ncnn does not load a net of one convolution")
        extractor = net.create_extractor()
        extractor.input("image", ncnn.Mat(tiny_net.image()[0]).clone())
        _, posterior = extractor.extract("posterior")
        return np.array(posterior)


def _in_openvino(hint: str) -> np.ndarray:
    from vgg_deploy.runtimes.openvino_package import load_openvino

    core = load_openvino().Core()
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeError(
            "no bfloat16 instructions on this CPU; OpenVINO would compute in float32"
        )
    compiled = core.compile_model(
        core.read_model(tiny_net.as_onnx()), "CPU", {"INFERENCE_PRECISION_HINT": hint}
    )
    return np.asarray(compiled({"image": tiny_net.image()})["posterior"])


def _in_engine(flavour: str) -> np.ndarray:
    """Build an engine, and run it on the GPU."""
    import torch

    trt: Any = FLAVOURS[flavour].load()
    log = collecting_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(tiny_net.as_onnx()):
        raise RuntimeError(f"cannot read a net of one convolution ({errors_of(log)})")
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise RuntimeError(f"builds no engine ({errors_of(log)})")
    engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    image = torch.from_numpy(tiny_net.image()).cuda()
    posterior = torch.empty(1, tiny_net.CLASSES, device="cuda")
    context.set_tensor_address("image", image.data_ptr())
    context.set_tensor_address("posterior", posterior.data_ptr())
    if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
        raise RuntimeError(f"does not run its engine ({errors_of(log)})")
    return _numpy(posterior)


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().numpy())


if __name__ == "__main__":
    fault = trial(*sys.argv[1:])
    print(json.dumps({"fault": fault}), flush=True)
    sys.exit(1 if fault else 0)
