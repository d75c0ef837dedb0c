"""The targets of coverage-guided fuzzing run on a corpus; atheris itself is not needed."""

from tests.fuzz.atheris_targets import TARGETS, corpus
from tests.fuzz.mutations import Edit

TARGET_OF = {".onnx": "wire", ".tar": "tar", ".index": "index"}


def test_targets_take_valid_files_and_any_others(tmp_path):
    files = corpus(tmp_path)
    assert {TARGET_OF[file.suffix] for file in files} == set(TARGETS)
    for file in files:
        data = file.read_bytes()
        for place in (0.0, 0.01, 0.3, 0.99):
            for kind in ("flip", "cut", "insert", "overwrite"):
                for target in TARGETS.values():
                    target(Edit(kind, place, 9, b"\xff" * 8).apply(data))
        TARGETS[TARGET_OF[file.suffix]](data)
