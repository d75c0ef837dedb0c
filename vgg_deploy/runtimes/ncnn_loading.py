"""Opens nets in ncnn, whole or in part, with weights that are read where they belong."""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from io import BufferedReader
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from vgg_deploy.errors import InputError
from vgg_deploy.exported.ncnn_files import AGAIN, FLOAT32, NcnnFiles, NcnnGraph, ncnn_graph
from vgg_deploy.regular_files import open_regular
from vgg_deploy.runtimes.ncnn_cut import Part
from vgg_deploy.runtimes.ncnn_rows import KernelRows

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
# Part of a block of memory that a value of a stage must fill to get it. Without a bound ncnn gives
# the oldest block, however large: less memory in all, but a band leaves the cache
FITS = 0.6
PLAIN, PACKED = 0, 1  # of Extractor.extract: channels one after the other, or ncnn's own order

# Writes bytes to their place in memory; False if the file has not enough of them
_Fill: TypeAlias = Callable[[np.ndarray], bool]

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
        text = NcnnGraph(part.layers).text
        try:
            with open_regular(files.weights) as file:
                reader = _reader(ncnn, _fills(file, part, ncnn_graph(files.artifact)))
                failed = self.net.load_param_mem(text) or self.net.load_model(reader)
        except OSError as error:
            raise InputError(f"{files.weights}: cannot be read ({error.strerror})", AGAIN) from None
        if failed:
            raise InputError(f"{files.param}: ncnn {ncnn.__version__} does not load it", AGAIN)

    def __call__(
        self, values: Mapping[str, Any], names: Sequence[str], order: int = PLAIN
    ) -> list[Any]:
        """Run it.

        Args:
            values: By name, (C, h, w) float32, or a Mat that is not needed again.
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
        for name, value in values.items():
            extractor.input(name, self._mat(value) if isinstance(value, np.ndarray) else value)
        found = []
        for name in names:
            mat = self.ncnn.Mat()
            status = extractor.extract(name, mat, order)
            if status:
                raise InputError(
                    f"{self._where}: ncnn gives no {name} (status {status}); it may need more "
                    "memory; use smaller images"
                )
            found.append(mat)
        return found

    def new_mat(self, shape: tuple[int, ...]) -> Any:
        """A Mat of (C, h, w) float32, not initialised, in memory that this part keeps."""
        channels, height, width = shape
        return self.ncnn.Mat(width, height, channels, allocator=self._memory)

    def _mat(self, values: np.ndarray) -> Any:
        """Copy (C, h, w) float32 values.

        A Mat that is made from an array does not keep the array, and a layer may work in place.
        """
        mat = self.new_mat(values.shape)
        np.asarray(mat)[:] = values
        return mat


def new_memory(ncnn: ModuleType, fits: float = 0.0) -> Any:
    """A PoolAllocator for values and buffers, which keeps its memory from call to call.

    Args:
        ncnn: The package.
        fits: Part of a block that a value must fill to get it.
    """
    memory = ncnn.PoolAllocator()
    memory.set_size_compare_ratio(fits)
    return memory


def _fills(file: BufferedReader, part: Part, graph: NcnnGraph) -> Iterator[_Fill]:
    """What ncnn reads, in the order in which it asks for it.

    Args:
        file: The .bin.
        part: What is loaded.
        graph: The whole net.
    """
    offsets, offset = {}, 0
    for stored in graph.arrays:
        offsets[stored.name] = offset + len(FLOAT32) * stored.marked
        offset += stored.bytes
    for layer in part.layers:
        if layer.name in part.summed:
            rows = part.summed[layer.name]
            yield _mark
            yield partial(_sum, rows, file, offsets[rows.stored.name])
        for array in layer.arrays:
            if array.marked:
                yield _mark
            yield partial(_read, file, offsets[array.name])


def _mark(place: np.ndarray) -> bool:
    place[:] = np.frombuffer(FLOAT32, np.uint8)
    return True


def _sum(rows: KernelRows, file: BufferedReader, offset: int, place: np.ndarray) -> bool:
    return rows.fill(file, offset, place.view(np.float32))


def _read(file: BufferedReader, offset: int, place: np.ndarray) -> bool:
    file.seek(offset)
    return file.readinto(place.data) == place.nbytes


def _reader(ncnn: ModuleType, fills: Iterator[_Fill]) -> Any:
    """Give weights to ncnn, written to where it keeps them."""

    def read(_: Any, memory: Any, size: int) -> int:
        place = (ctypes.c_uint8 * size).from_address(_pointer(memory, None))
        try:
            is_whole = next(fills)(np.ctypeslib.as_array(place))
        except OSError:  # not through ncnn, which was compiled without exceptions
            is_whole = False
        return size if is_whole else 0

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
