"""Opens nets in ncnn, whole or in part, with weights that are read where they belong."""

import ctypes
from collections.abc import Sequence
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from vgg_deploy.errors import InputError
from vgg_deploy.exported.ncnn_files import AGAIN, NcnnFiles, NcnnGraph
from vgg_deploy.regular_files import open_regular
from vgg_deploy.runtimes.ncnn_cut import Part

# Where the CPU has half precision ncnn would use it, and a GPU where it finds one
OFF = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
    "use_int8_inference",
    "use_vulkan_compute",
)
BFLOAT16 = ("use_bf16_packed", "use_bf16_storage")
# Part of a block of memory that a value must fill to get it. Without a bound ncnn gives the oldest
# block, however large, and a band leaves the cache: conv1_1 to pool1 took 87 ms instead of 72
FITS = 0.6
PLAIN, PACKED = 0, 1  # of Extractor.extract: channels one after the other, or ncnn's own order

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


class NcnnPart:
    """A part of a net, ready to run."""

    def __init__(
        self,
        ncnn: ModuleType,
        files: NcnnFiles,
        part: Part,
        threads: int,
        bfloat16: bool,
        memory: Any,
    ):
        """Open it.

        Args:
            ncnn: The package.
            files: Compared with their description.
            part: Of the net of those files.
            threads: To run with.
            bfloat16: Keep weights and values in bfloat16, and multiply in it.
            memory: Of `new_memory`; other parts may share it that run before or after this one.

        Raises:
            InputError: If ncnn does not load it.
        """
        self.ncnn, self.part, self._where = ncnn, part, str(files.param)
        self._memory = memory
        self.net: Any = ncnn.Net()
        for name in OFF:
            setattr(self.net.opt, name, bfloat16 and name in BFLOAT16)
        self.net.opt.num_threads = threads
        with open_regular(files.weights) as file:
            file.seek(part.offset)
            text = NcnnGraph(part.layers).text
            failed = self.net.load_param_mem(text) or self.net.load_model(_reader(ncnn, file))
        if failed:
            raise InputError(f"{files.param}: ncnn {ncnn.__version__} does not load it", AGAIN)

    def __call__(self, values: Any, names: Sequence[str], order: int = PLAIN) -> list[Any]:
        """Run it.

        Args:
            values: A Mat, which must not be needed again.
            names: Of the values that are wanted.
            order: PLAIN or PACKED.

        Returns:
            A Mat for each name.

        Raises:
            InputError: If ncnn gives none.
        """
        extractor = self.net.create_extractor()
        extractor.set_blob_allocator(self._memory)
        extractor.set_workspace_allocator(self._memory)
        extractor.input(self.part.reads, values)
        found = []
        for name in names:
            value = self.ncnn.Mat()
            status = extractor.extract(name, value, order)
            if status:
                raise InputError(
                    f"{self._where}: ncnn gives no {name} (status {status}); it may need more "
                    "memory; use smaller images"
                )
            found.append(value)
        return found

    def mat(self, values: np.ndarray) -> Any:
        """Copy (C, h, w) float32 values to a Mat.

        A Mat that is made from an array does not keep the array, and a layer may work in place.
        """
        channels, height, width = values.shape
        mat = self.ncnn.Mat(width, height, channels)
        np.asarray(mat)[:] = values
        return mat


def new_memory(ncnn: ModuleType) -> Any:
    """A PoolAllocator for values and buffers, which keeps its memory from call to call."""
    memory = ncnn.PoolAllocator()
    memory.set_size_compare_ratio(FITS)
    return memory


def _reader(ncnn: ModuleType, file: BinaryIO) -> Any:
    """Give a file to ncnn, from its position on, without a copy on the way."""

    def read(_: Any, memory: Any, size: int) -> int:
        place = (ctypes.c_char * size).from_address(_pointer(memory, None))
        return file.readinto(place)  # type: ignore[attr-defined, no-any-return]

    return type("Reader", (ncnn.DataReader,), {"read": read})()


def load_ncnn() -> ModuleType:
    """Import ncnn.

    Raises:
        InputError: If it is not installed; says how to install it.
    """
    try:
        import ncnn
    except ImportError as error:
        raise InputError(
            f"ncnn cannot be imported ({error}); pip install vgg-deploy[ncnn], or ncnn alone"
        ) from None
    module: ModuleType = ncnn
    return module
