"""Checks the zip archives that torch.save writes before torch maps them.

torch takes an archive's tensors as they lie in the file. It checks neither the compression of a
record, nor its size, nor its checksum. A flipped bit, a truncated record or an archive that another
program compressed would silently become other weights. Here every record's CRC-32, compression and
size are checked, in one pass over the file that keeps no more than a block of it in memory.

Files from before torch 1.6 are no archives and have no checksums. torch itself notices where they
are truncated.
"""

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from vgg_deploy.errors import InputError
from vgg_deploy.net.pickle_bounds import MOST_BYTES, check_next_pickle, check_pickle
from vgg_deploy.net.torch_files import is_zip
from vgg_deploy.regular_files import open_regular

BLOCK = 2**20  # bytes read at a time
DESCRIPTION = "data.pkl"  # the record with everything but the tensors' values
ITEM_BYTES = {  # of an element, by the name of the storage type in the pickle
    "UntypedStorage": 1, "BoolStorage": 1, "ByteStorage": 1, "CharStorage": 1,
    "QInt8Storage": 1, "QUInt8Storage": 1, "ShortStorage": 2, "HalfStorage": 2,
    "BFloat16Storage": 2, "IntStorage": 4, "FloatStorage": 4, "QInt32Storage": 4,
    "LongStorage": 8, "DoubleStorage": 8, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip


class _Storage(NamedTuple):
    """Values of tensors, as data.pkl names them."""

    key: str  # the record is data/<key>
    bytes: int


class _Inert:
    """Stands for every object that a pickle would make; ignores whatever is done to it."""

    def __init__(self, *args: object, **named: object):
        pass

    def __call__(self, *args: object, **named: object) -> "_Inert":
        return self

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Ignore it."""

    def extend(self, values: object) -> None:
        """Ignore it."""

    def add(self, value: object) -> None:
        """Ignore it."""


class _Reader(pickle.Unpickler):
    """Reads a pickle without running any of its code, and collects the storages that it names."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Replace every class: storage types by the size of an element, others by nothing."""
        known = module in ("torch", "torch.storage") and name in ITEM_BYTES
        return type("Inert", (_Inert,), {"itemsize": ITEM_BYTES[name]} if known else {})

    def persistent_load(self, pid: Any) -> _Inert:
        """Collect a storage.

        Args:
            pid: ("storage", type, key, device, number of elements).

        Raises:
            pickle.UnpicklingError: If it is something else.
        """
        kind, storage_type, key, _, count = pid
        if kind != "storage" or not isinstance(key, str) or not isinstance(count, int):
            raise pickle.UnpicklingError(f"a persistent id of kind {kind!r}")
        storage = _Storage(key, count * storage_type.itemsize)
        if self.storages.setdefault(key, storage) != storage:
            raise pickle.UnpicklingError(f"storage {key} is named with two sizes")
        return _Inert()


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, as torch has written them since version 1.6."""
    return is_zip(path)


def described(path: Path) -> object:
    """The content of an archive without its tensors: text, numbers, lists and dictionaries.

    Objects of any other kind are replaced by inert ones; no code of the file is run.

    Raises:
        InputError: If the archive is damaged.
    """
    with _opened(path) as archive:
        content, _ = _read_description(archive, path)
    return content


def check_archive(path: Path) -> None:
    """Check all bytes of an archive that torch is about to map.

    Raises:
        InputError: If a record is compressed, has another size than its tensor, or another CRC-32
            than the archive states; if records are missing or named twice.
    """
    with _opened(path) as archive:
        records = archive.infolist()
        _check_headers(records, path)
        for record in records:
            _read_through(archive, record, path)
        _, storages = _read_description(archive, path)
        folder = _folder(archive, path)
    sizes = {record.filename: record.file_size for record in records}
    for storage in storages:
        name = f"{folder}/data/{storage.key}"
        if name not in sizes:
            _refuse(path, f"its record {name} is missing")
        if sizes[name] != storage.bytes:
            _refuse(
                path,
                f"its record {name} has {sizes[name]:,} bytes, its tensor takes {storage.bytes:,}",
            )


def check_old_file(path: Path) -> None:
    """Check the pickles of a file from before torch 1.6: what they claim, not what they mean.

    The file begins with three short pickles and that of the content.

    Raises:
        InputError: If one of them claims more memory than the file has bytes.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            for _ in range(4):
                check_next_pickle(file, size)
    except pickle.UnpicklingError as error:
        _refuse(path, str(error))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check it") from None
    except Exception:  # no such file: torch says what it is
        return


def _check_headers(records: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse records that occur twice, or compressed."""
    names = [record.filename for record in records]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        _refuse(path, f"its record {twice} occurs twice")
    for record in records:
        stored = record.compress_type == zipfile.ZIP_STORED
        if not stored or record.compress_size != record.file_size:
            raise InputError(
                f"{path}: its record {record.filename} is compressed, and torch saves records "
                "uncompressed; another program has packed the file again: take the original file"
            )


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); check its permissions"
            ) from None
        _refuse(path, str(error))


def _read_through(archive: zipfile.ZipFile, record: zipfile.ZipInfo, path: Path) -> None:
    """Read a record to its end, where zipfile compares the CRC-32."""
    try:
        for _ in _blocks(archive, record):
            pass
    except Exception as error:  # zipfile raises almost anything for a damaged header of a record
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the disk") from None
        _refuse(path, f"its record {record.filename} is not as it was saved ({error})")


def _blocks(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(record) as file:
        block = file.read(BLOCK)
        while block:
            yield block
            block = file.read(BLOCK)


def _read_description(archive: zipfile.ZipFile, path: Path) -> tuple[object, list[_Storage]]:
    name = f"{_folder(archive, path)}/{DESCRIPTION}"
    try:
        with archive.open(name) as file:
            data = file.read(MOST_BYTES)
        check_pickle(data)
        reader = _Reader(io.BytesIO(data))
        content = reader.load()
    except Exception as error:  # a damaged pickle raises almost anything
        reason = str(error) if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        _refuse(path, f"its record {name} cannot be read ({reason})")
    return content, list(reader.storages.values())


def _folder(archive: zipfile.ZipFile, path: Path) -> str:
    """The folder inside the archive, which torch names after the file it was saved to."""
    ending = f"/{DESCRIPTION}"
    names = archive.namelist()
    descriptions = [name for name in names if name.count("/") == 1 and name.endswith(ending)]
    if len(descriptions) != 1:
        raise InputError(
            f"{path}: cannot be read as a torch file, it is a zip archive of something else; "
            "give a file that torch.save wrote"
        )
    return descriptions[0].removesuffix(ending)


def _refuse(path: Path, reason: str) -> NoReturn:
    raise InputError(
        f"{path}: damaged or truncated: {reason}; take another copy of the file"
    ) from None
