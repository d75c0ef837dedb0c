"""The newest files that the commands leave for each other."""

import os

import pytest

from vgg_deploy.errors import InputError
from vgg_deploy.newest import newest_exports, newest_run


def test_the_run_whose_file_was_written_last(tmp_path):
    with pytest.raises(InputError, match="no run with a best.pt here"):
        newest_run(tmp_path)
    for age, name in enumerate(("new", "chain/D", "old")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "best.pt").touch()
        os.utime(tmp_path / name / "best.pt", (1e9 - age, 1e9 - age))
    assert newest_run(tmp_path) == tmp_path / "new"
    os.utime(tmp_path / "chain/D/best.pt", (2e9, 2e9))
    assert newest_run(tmp_path) == tmp_path / "chain/D"


def test_the_models_of_the_last_export(tmp_path):
    with pytest.raises(InputError, match="no exported models here"):
        newest_exports(tmp_path)
    manifest = tmp_path / "export.json"
    manifest.write_text('[{"file": "D.onnx"}, {"file": "D.engine", "bytes": 1}]')
    assert newest_exports(tmp_path) == [tmp_path / "D.onnx", tmp_path / "D.engine"]


@pytest.mark.parametrize("text", ["{", '{"file": "D.onnx"}', "[{}]", '["D.onnx"]', '[{"file": 3}]'])
def test_a_damaged_list_of_exports_is_refused(tmp_path, text):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(InputError, match="export.json.*; run vgg-export again"):
        newest_exports(tmp_path)
