"""Entry points for coverage-guided fuzzing of the parsers of bytes: wire format, tar, index.

    pip install atheris
    python -m tests.fuzz.atheris_targets tar corpus/ -max_total_time=600

Each target takes any bytes. Anything but a result or the project's own error is a finding. `corpus`
writes small valid files to start from.
"""

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from vgg_deploy.data.index_file import DamagedIndex, read_index
from vgg_deploy.data.shard_samples import samples
from vgg_deploy.data.tar_reader import nested_members
from vgg_deploy.errors import VGGDeployError
from vgg_deploy.exported.onnx_wire import data_locations

MOST_BYTES = 2**20  # of one input


def wire(data: bytes) -> None:
    """The fields of an ONNX file."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(data)
        file.flush()
        try:
            names = data_locations(Path(file.name))
        except VGGDeployError:
            return
        assert all(name.encode() in data for name in names)


def tar(data: bytes) -> None:
    """The samples of a shard, and the members of tars in a tar."""
    for read in (samples, nested_members):
        try:
            for found in read(cast(BinaryIO, io.BytesIO(data)), "x.tar"):
                member = found[1] if isinstance(found[1], tuple) else found
                assert 0 <= member.begin <= member.begin + member.size <= len(data)
        except VGGDeployError:
            pass


def index(data: bytes) -> None:
    """An index of names and numbers, once as it is and once with a checksum that fits."""
    from tests.fuzz.reader import seal_index

    for content in (data, seal_index(data)):
        with tempfile.NamedTemporaryFile(suffix=".index") as file:
            file.write(content)
            file.flush()
            try:
                found = read_index(Path(file.name))
            except DamagedIndex:
                continue
            assert len(b"".join(map(str.encode, map(ascii, found.names)))) >= 0
            assert all(len(column) == len(found.names) for column in found.columns.values())


TARGETS: dict[str, Callable[[bytes], None]] = {"wire": wire, "tar": tar, "index": index}


def corpus(folder: Path) -> list[Path]:
    """Write valid files, one or more per target, to start from."""
    from tests.fuzz.readers import READERS

    made = []
    for name, suffix in (("ONNX", ".onnx"), ("shards and indexes", ".tar"), ("tars", ".index")):
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True)
        READERS["shards and indexes" if suffix == ".index" else name].make(place)
        made += sorted(place.glob(f"*{suffix}"))
    return made


def main() -> None:
    """Run one target with atheris until it ends or finds something."""
    import atheris

    target = TARGETS[sys.argv.pop(1)]
    atheris.instrument_all()
    atheris.Setup(sys.argv, lambda data: target(data[:MOST_BYTES]))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
