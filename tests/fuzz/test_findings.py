"""Every input that the fuzzers found is refused with one line, or passed over, and stays so.

Oracle: as of the fuzzer itself. `Finding.was` is what came of the input before.
"""

import shutil
import time

import pytest

from tests.fuzz.findings import FINDINGS, INPUTS, Finding, stored
from tests.fuzz.mutations import Bytes, Json, Other
from tests.fuzz.readers import READERS
from vgg_deploy.errors import MOST_CHARACTERS, VGGDeployError

LONGEST_S = 10  # of one file


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Folders with valid files by reader, each made once and read once."""
    made = {}

    def folder(name: str):
        if name not in made:
            place = tmp_path_factory.mktemp("valid")
            victims = READERS[name].make(place)
            seals = {victim.name: victim.seal for victim in victims}
            copied = tmp_path_factory.mktemp("read") / "d"
            shutil.copytree(place, copied)
            READERS[name].read(copied)
            made[name] = place, seals
        return made[name]

    return folder


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.what)
def test_what_was_found_is_refused_or_passed_over(valid, tmp_path, finding: Finding):
    if finding.reader not in READERS:
        pytest.skip("pyarrow is not installed")
    place, seals = valid(finding.reader)
    damaged = tmp_path / "d"
    shutil.copytree(place, damaged)
    path = damaged / finding.file
    before = path.read_bytes()
    if isinstance(finding.damage, Bytes | Json | Other):
        finding.damage.apply(path, seals.get(finding.file))
    else:
        finding.damage(path)
    is_changed = not path.is_file() or path.stat().st_size > 2**30 or path.read_bytes() != before
    assert is_changed or path.with_name("zz").is_symlink()
    start = time.monotonic()
    try:
        READERS[finding.reader].read(damaged)
    except VGGDeployError as error:
        assert finding.refused, error.message
        assert len(error.message.splitlines()) == 1
        assert len(error.message) <= MOST_CHARACTERS + 20
    else:
        assert not finding.refused, f"accepted; before: {finding.was}"
    assert time.monotonic() - start < LONGEST_S


def test_every_stored_input_is_used():
    used = {
        cell.cell_contents
        for finding in FINDINGS
        if getattr(finding.damage, "__qualname__", "").startswith(stored.__name__)
        for cell in finding.damage.__closure__
    }
    assert used == {path.name for path in INPUTS.iterdir()}
