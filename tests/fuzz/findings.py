"""What the fuzzers have found, each as the smallest input that shows it.

Small files lie in `inputs`. Others are made here from a valid file, by a mutation of the fuzzer or
by a function of a few lines.
"""

import io
import json
import os
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tests.fuzz.described_files import LABELS, PARQUET, write_parquet
from tests.fuzz.mutations import DEEP, Bytes, Edit, Json, Mutation, Other
from tests.fuzz.reader import seal_index
from vgg_deploy.data.index_file import Index, Names, write_index

INPUTS = Path(__file__).parent / "inputs"


class Finding(NamedTuple):
    """One input that was read wrongly.

    Attributes:
        what: It is, in words.
        was: What came of it.
        reader: Its name among READERS.
        file: That is damaged, in the reader's folder.
        damage: A mutation, or a function that is called with the path of the valid file.
        refused: Whether an error is right; otherwise it is passed over.
    """

    what: str
    was: str
    reader: str
    file: str
    damage: Mutation | Callable[[Path], object]
    refused: bool = True


def stored(name: str) -> Callable[[Path], object]:
    """Put a file of `inputs` in the place of the valid one."""
    return lambda path: shutil.copyfile(INPUTS / name, path)


def torch_entry(key: str, value: object) -> Callable[[Path], object]:
    """Change an entry of a checkpoint, or of a dictionary in it, as "training.step"."""

    def change(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        *parents, last = key.split(".")
        here = content
        for parent in parents:
            here = here[parent]
        here[last] = value
        torch.save(content, path)

    return change


def weight(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], object]:
    """Change the first tensor of a checkpoint."""

    def change(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        name = next(iter(content["weights"]))
        content["weights"][name] = make(content["weights"][name])
        torch.save(content, path)

    return change


def described(**changes: object) -> Callable[[Path], object]:
    """Change the description of a checkpoint's net."""

    def change(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        content["spec"] = json.dumps({**json.loads(content["spec"]), **changes})
        torch.save(content, path)

    return change


def repacked(
    compression: int = zipfile.ZIP_STORED,
    change: Callable[[str, bytes], bytes] = lambda name, data: data,
    twice: bool = False,
) -> Callable[[Path], object]:
    """Write the records of a torch file again."""

    def pack(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in records.items():
                archive.writestr(name, change(name, data))
            if twice:
                archive.writestr(zipfile.ZipInfo(next(iter(records))), b"")

    return pack


def half_of_a_record(name: str, data: bytes) -> bytes:
    """Half of the first tensor's values."""
    return data[: len(data) // 2] if name.endswith("/data/0") else data


def several_disks(path: Path) -> None:
    """The record at the end of a large zip archive that says it has several disks."""
    locator = b"PK\x06\x07" + struct.pack("<LQL", 1, 0, 7)
    data = path.read_bytes()
    at = data.rindex(b"PK\x05\x06")
    path.write_bytes(data[:at] + locator + data[at:])


def line_break_in_a_record(path: Path) -> None:
    """The directory of the archive names a record with a line break."""
    data = path.read_bytes()
    at = data.rindex(b"archive/data/1")
    path.write_bytes(data[:at] + data[at:].replace(b"archive/data/1", b"archive/data\n1", 1))


def pickled(instructions: bytes) -> Callable[[Path], object]:
    """An archive with this description of its content."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", instructions)
            archive.writestr("archive/version", b"3\n")

    return write


def huge_arrays(path: Path) -> None:
    """A kilobyte that says it has 2 TB of zeros."""
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (2**39,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue())


def member(name: str, data: bytes) -> Callable[[Path], object]:
    """Add a file to a tar."""

    def add(path: Path) -> None:
        with tarfile.open(path, "a") as tar:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

    return add


def class_number(number: bytes) -> Callable[[Path], object]:
    """Replace the classes of all images of a tar."""

    def write(path: Path) -> None:
        with tarfile.open(path) as tar:
            files = [(each.name, tar.extractfile(each).read()) for each in tar]
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in files:
                content = number if name.endswith(".cls") else data
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))

    return write


def index(head: dict[str, Any], **columns: list[int]) -> Callable[[Path], object]:
    """A whole index of something else, with sound checksums."""

    def write(path: Path) -> None:
        path.unlink()
        names = Names.of(["a/0.png", "b/0.png"])
        write_index(path, Index(head, {k: np.array(v) for k, v in columns.items()}, names))

    return write


def index_names(count: int) -> Callable[[Path], object]:
    """An index that says it has another number of names, with a sound checksum."""

    def write(path: Path) -> None:
        data = path.read_bytes()
        at = data.index(b'"names": ') + len(b'"names": ')
        digits = str(count).encode()
        path.write_bytes(seal_index(data[:at] + digits + data[at + len(digits) :]))

    return write


def behind_itself(path: Path) -> None:
    """A folder with a link that leads to itself."""
    (path.parent / "zz").symlink_to("zz")


LONG = "x" * 5000
HALF = "\ud800"
AT_SPEC = (0,)  # any way into a document

CHECKPOINTS = [
    Finding(*row)
    for row in (
        ("a tensor as the version", "RuntimeError", "checkpoints", "A.pt",
         torch_entry("version", torch.zeros(3))),
        ("a tensor as the format", "RuntimeError", "checkpoints", "A.pt",
         torch_entry("format", torch.zeros(3))),
        ("half a character in the recipe", "UnicodeEncodeError", "checkpoints", "A.pt",
         described(recipe=HALF)),
        ("half a character in a class", "UnicodeEncodeError", "checkpoints", "A.pt",
         described(classes=[HALF, "b"], names=["a", "b"])),
        ("no training side", "IndexError", "checkpoints", "A.pt", described(train_side=[])),
        ("a side of a tenth of a light year", "MemoryError", "checkpoints", "A.pt",
         described(train_side=[64, 10**15])),
        ("a crop of 3.2e9", "RuntimeError", "checkpoints", "A.pt", described(crop=3_200_000_000)),
        ("an infinite width", "OverflowError", "checkpoints", "A.pt",
         lambda path: described(width=float("inf"))(path)),
        ("a deep description", "RecursionError", "checkpoints", "A.pt",
         torch_entry("spec", "[" * DEEP)),
        ("a zip archive of several disks", "BadZipFile", "checkpoints", "A.pt", several_disks),
        ("a record with a line break", "two lines", "checkpoints", "A.pt", line_break_in_a_record),
        ("half of a tensor's values", "other weights", "checkpoints", "A.pt",
         repacked(change=half_of_a_record)),
        ("compressed records", "other weights", "checkpoints", "A.pt",
         repacked(zipfile.ZIP_DEFLATED)),
        ("a flipped bit", "other weights", "checkpoints", "A.pt",
         Bytes((Edit("flip", 0.5, 3, b""),), False)),
        ("a page of zeros", "other weights", "checkpoints", "A.pt",
         Bytes((Edit("overwrite", 0.5, 1, bytes(256)),), False)),
        ("sparse weights", "RuntimeError", "checkpoints", "A.pt", weight(torch.Tensor.to_sparse)),
        ("weights without values", "NotImplementedError", "checkpoints", "A.pt",
         weight(lambda tensor: torch.empty_like(tensor, device="meta"))),
        ("nested weights", "RuntimeError", "checkpoints", "A.pt",
         weight(lambda tensor: torch.nested.nested_tensor([tensor[0], tensor[0]]))),
        ("weights that are NaN", "numbers in a table", "checkpoints", "A.pt",
         weight(lambda tensor: tensor * float("nan"))),
        ("a bytearray of 10 GB", "10 GB of memory", "checkpoints", "A.pt",
         pickled(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.")),
        ("two milliards of entries", "16 GB of memory", "checkpoints", "A.pt",
         pickled(b"\x80\x02}r\xff\xff\xff\x7f.")),
        ("a pipe", "waited for ever", "checkpoints", "A.pt", Other("pipe")),
        ("an endless device", "waited for ever", "checkpoints", "A.pt", Other("device")),
        ("arrays of 2 TB", "MemoryError", "foreign .npz", "a.npz", huge_arrays),
        ("an old file of a bytearray", "10 GB of memory", "foreign old .pth", "old.pth",
         lambda path: path.write_bytes(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.")),
    )
]  # fmt: skip

LISTS = [
    Finding(*row)
    for row in (
        ("wnids and positions in one list", "wrong labels", "lists", "flat/val.txt",
         stored("mixed_forms.txt")),
        ("positions 0 and 00", "wrong classes", "lists", "class_index.json",
         stored("position_twice.json")),
        ("entries of two kinds", "wrong classes", "lists", "class_index.json",
         stored("two_kinds.json")),
        ("a key that is there twice", "wrong classes", "lists", "class_index.json",
         stored("key_twice.json")),
        ("a name that is half a character", "UnicodeEncodeError", "lists", "class_index.json",
         stored("half_a_character.json")),
        ("a number of 6000 digits", "ValueError", "lists", "flat/val.txt",
         lambda path: path.write_text("9" * 6000)),
        ("a name of 5000 characters", "a sentence of 5000", "lists", "flat/val.txt",
         lambda path: path.write_text(f"{LONG} n01440760\n")),
        ("UTF-16", "UnicodeDecodeError", "lists", "names.txt",
         lambda path: path.write_bytes("cat\ndog\n".encode("utf-16"))),
        ("a list that is a circle of links", "RuntimeError", "reassessed labels", "real.json",
         Other("loop")),
        ("a class number that is true", "another class", "reassessed labels", "real.json",
         lambda path: path.write_text(json.dumps([[True]] * 50_000))),
    )
]  # fmt: skip

SHARDS = [
    Finding(*row)
    for row in (
        ("a class number of nine digits", "6 GB of memory", "tars", "val-000000.tar",
         class_number(b"999999999")),
        ("a file name with a line break", "two lines", "tars", "val-000000.tar",
         member("a\nb.jpg", b"x")),
        ("a link in the folder that leads to itself", "OSError", "image lists",
         "data/train/a/0.png", behind_itself),
        ("a shard that is a pipe", "waited for ever", "shards and indexes", "val-000000.tar",
         Other("pipe")),
        ("a hole of a terabyte as an index", "read for hours", "image lists",
         "train_images.index", Other("huge")),
        ("an index without classes", "KeyError", "image lists", "train_images.index",
         index({}, label=[0, 1], bytes=[9, 9])),
        ("an index of shards", "KeyError", "image lists", "train_images.index",
         index({"classes": ["a", "b"]}, labels=[0, 1])),
        ("an index with a label beyond its classes", "IndexError", "image lists",
         "train_images.index", index({"classes": ["a"]}, label=[0, 1], bytes=[9, 9])),
        ("an index with a name more", "ValueError", "image lists", "train_images.index",
         index_names(3)),
        ("a listing without strays", "KeyError", "caches", "listing.index",
         index({"folders": [["a", 1, 2, 3]]}, labels=[0, 0]), False),
        ("a listing with a label beyond its folders", "a wrong label", "caches", "listing.index",
         index({"folders": [["a", 1, 2, 3]], "strays": []}, labels=[0, 9]), False),
        ("a listing with other strays", "TypeError", "caches", "listing.index",
         index({"folders": [["a", 1, 2, 3]], "strays": 5}, labels=[0, 0]), False),
        ("a hole of a terabyte as a listing", "read for hours", "caches", "listing.index",
         Other("huge"), False),
        ("a mean colour that was changed", "another mean", "caches", "colours.json",
         stored("changed_colours.json"), False),
    )
]  # fmt: skip


def json_value(reader: str, file: str, path: tuple[int, ...], value: object, was: str) -> Finding:
    """Another value in a JSON file, with a checksum that fits."""
    what = f"{value!r:.20} in {file} at {'.'.join(map(str, path))}"
    return Finding(what, was, reader, file, Json(path, value, "replace", ""))


JSON = [
    *(
        Finding(f"{what} in {file}", was, reader, file, Json(AT_SPEC, None, "raw", raw))
        for reader, file in (
            ("manifests", "A.json"),
            ("manifests", "engine.json"),
            ("calibration", "calibration.json"),
            ("shards and indexes", "shards.json"),
            ("run folders", "chain.json"),
            ("run folders", "A-256/config.json"),
            ("timm's config", "config.json"),
            ("list of exports", "export.json"),
            ("ONNX metadata", "metadata.json"),
        )
        for what, raw, was in (
            ("lists in lists", "[" * DEEP, "RecursionError"),
            ("infinity", "Infinity", "OverflowError"),
            ("a number of 6000 digits", "9" * 6000, "ValueError"),
        )
    ),
    json_value("list of exports", "export.json", (0, 0), LONG, "OSError"),
    json_value("list of exports", "export.json", (0, 0), HALF, "UnicodeEncodeError"),
    json_value("list of exports", "export.json", (0, 0), "a\nb", "two lines"),
    Finding(
        "a name of 5000 characters in run.json", "OSError", "results", "run.json",
        Json((5, 1), LONG, "replace", ""), False,
    ),
    Finding(
        "half a character in an ONNX file's source", "UnicodeEncodeError", "ONNX metadata",
        "metadata.json", Json((3,), HALF, "replace", ""),
    ),
    Finding(
        "an exchanged number of a recipe", "another recipe", "run folders", "A-256/config.json",
        lambda path: path.write_text(path.read_text().replace('"lr": 0.01', '"lr": 0.02')),
    ),
    Finding(
        "an exchanged number of a chain", "another recipe", "run folders", "chain.json",
        lambda path: path.write_text(path.read_text().replace('"lr": 0.01', '"lr": 0.02')),
    ),
    Finding(
        "an exchanged range of a calibration", "other thresholds", "calibration",
        "calibration.json", lambda path: path.write_text(path.read_text().replace("9.0", "7.0")),
    ),
    Finding(
        "two classes exchanged in shards.json", "wrong labels", "shards and indexes",
        "shards.json", lambda path: path.write_text(
            path.read_text().replace('"0"', '"x"').replace('"1"', '"0"').replace('"x"', '"1"')
        ),
    ),
    Finding(
        "a hole of a terabyte as weights", "read for hours", "ONNX with separate weights",
        "A.onnx.data", lambda path: os.truncate(path, 2**40),
    ),
]  # fmt: skip

RUNS = [
    Finding(*row)
    for row in (
        ("a tensor as the version of last.pt", "RuntimeError", "run folders", "A-256/last.pt",
         torch_entry("version", torch.zeros(0))),
        ("a step that is a text", "TypeError", "run folders", "A-256/last.pt",
         torch_entry("training.step", "2")),
        ("sums that are too few", "IndexError", "run folders", "A-256/last.pt",
         torch_entry("training.tally", [0.0])),
        ("metrics.csv in another encoding", "UnicodeDecodeError", "run folders",
         "A-256/metrics.csv", lambda path: path.write_bytes(b"\xff\xfe\0" * 9)),
        ("metrics.csv as a folder", "IsADirectoryError", "run folders", "A-256/metrics.csv",
         Other("folder")),
        ("steps.csv as a pipe", "waited for ever", "run folders", "A-256/steps.csv", Other("pipe")),
        ("a lock that is a pipe", "waited for ever", "run folders", "A-256/.lock", Other("pipe")),
        ("a lock of cells that is a pipe", "waited for ever", "cells", ".lock", Other("pipe"),
         False),
    )
]  # fmt: skip

PARQUETS = [
    Finding("a parquet file that is a pipe", "waited for ever", "parquet", PARQUET, Other("pipe")),
    Finding(
        "a circle of links as a parquet file", "OSError", "parquet", PARQUET, Other("loop")
    ),
    Finding(
        "lists in lists in the schema of a parquet file", "RecursionError", "parquet", PARQUET,
        lambda path: write_parquet(path, "[" * DEEP), False,
    ),
    Finding(
        "half a character in a label of a parquet file", "UnicodeEncodeError", "parquet", PARQUET,
        lambda path: write_parquet(path, json.dumps(LABELS).replace("cat", "\\ud800")), False,
    ),
]  # fmt: skip

FINDINGS = [*CHECKPOINTS, *LISTS, *SHARDS, *JSON, *RUNS, *PARQUETS]
