"""Signatures of exported files; oracles: ECDSA, sha256sum and the command of model-signing."""

import base64
import json
import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("model_signing", reason="model-signing is not installed")

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bench.cli import main as vgg_bench
from bench.predict.cli import main as vgg_predict
from export.cli import main as vgg_export
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.signatures import SigningKey, VerifyingKey, signature_path


def write_keys(folder, name, key=None, password=None):
    """A private and a public key in PEM; returns their paths."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    protection = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    form = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, protection))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return private, public


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with keys, and a signed export with its weights outside, made by the command."""
    folder = tmp_path_factory.mktemp("signed")
    private, _ = write_keys(folder, "release")
    write_keys(folder, "other")
    model = save_net(thin_net("A", classes=CLASSES), folder / "A.pt")
    options = ("--onnx", "--external-data", "--sign", private, "--threads", 1)
    output = run(vgg_export, model, *options, "--out", folder / "exported")
    assert "signed: " in output
    return folder


@pytest.fixture
def signed(exported, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(exported, tmp_path / "copy")


FILES = ("A.fp32.onnx", "A.fp32.onnx.data", "A.fp32.json")


def test_the_signature_is_ecdsa_over_the_sha256_of_every_file(signed):
    folder = signed / "exported"
    bundle = json.loads((folder / "A.fp32.onnx.sig").read_text())["dsseEnvelope"]
    payload = base64.b64decode(bundle["payload"])
    kind = bundle["payloadType"]
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    key = serialization.load_pem_public_key((signed / "release.pub").read_bytes())
    signature = base64.b64decode(bundle["signatures"][0]["sig"])
    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(signature, message + b" ", ec.ECDSA(hashes.SHA256()))
    resources = json.loads(payload)["predicate"]["resources"]
    listed = {resource["name"]: resource["digest"] for resource in resources}
    names = [folder / name for name in sorted(FILES)]
    digests = subprocess.run(["sha256sum", *names], capture_output=True, text=True, check=True)
    assert listed == {
        os.path.basename(line.split("  ")[1]): line.split("  ")[0]
        for line in digests.stdout.splitlines()
    }


@pytest.mark.slow
def test_model_signing_itself_accepts_it(signed):
    folder = signed / "exported"
    command = [sys.executable, "-m", "model_signing", "verify", "key", folder]
    options = ["--signature", folder / "A.fp32.onnx.sig", "--public_key", signed / "release.pub"]
    command += [*options, "--ignore_unsigned_files"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (folder / FILES[1]).write_bytes(b"altered")
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_signed_files_are_predicted_and_measured(signed, photos):
    model, key = signed / "exported" / "A.fp32.onnx", signed / "release.pub"
    photo = next(photos.rglob("*.jpeg"))
    run(vgg_predict, model, photo, "--verify", key, "--scales", 32)
    out = ("--out", signed / "results", "--cells", signed / "cells")
    measured = ("--data", photos, "--scales", 32, "--measure", "accuracy", "--images", 4)
    run(vgg_bench, model, "--verify", key, *measured, *out)
    assert (signed / "results" / "accuracy.csv").is_file()
    output = run(vgg_bench, model, "--verify", signed / "other.pub", *measured, *out, code=1)
    assert "do not use it" in output


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["altered", "missing", "symlink"])
def test_every_signed_file_counts(signed, photos, name, change):
    file = signed / "exported" / name
    content = bytearray(file.read_bytes())
    file.unlink()
    if change == "altered":
        content[-2] ^= 1
        file.write_bytes(content)
    if change == "symlink":
        (signed / "elsewhere").write_bytes(content)
        file.symlink_to(signed / "elsewhere")
    model = signed / "exported" / "A.fp32.onnx"
    gone = (change, name) == ("missing", model.name)
    words = (model, next(photos.rglob("*.jpeg")), "--verify", signed / "release.pub")
    output = run(vgg_predict, *words, code=2 if gone else 1)
    assert ("cannot be read" if gone else "is not what was signed") in output


def test_a_file_that_was_not_signed_is_not_added(here):
    private, public = write_keys(here, "key")
    model = here / "A.onnx"
    model.write_bytes(b"graph")
    assert SigningKey(private).sign(model) == here / "A.onnx.sig"
    VerifyingKey(public).verify(model)
    (here / "unrelated.onnx").write_bytes(b"another model of the folder")
    VerifyingKey(public).verify(model)
    (here / "A.onnx.data").write_bytes(b"weights")
    with pytest.raises(CheckFailed, match="A.onnx.data"):
        VerifyingKey(public).verify(model)


def test_the_signature_of_another_file_does_not_serve(here):
    """Not even while that file lies beside it."""
    private, public = write_keys(here, "key")
    for name in ("A.onnx", "B.onnx"):
        (here / name).write_bytes(name.encode())
    SigningKey(private).sign(here / "A.onnx")
    shutil.copy(here / "A.onnx.sig", here / "B.onnx.sig")
    with pytest.raises(CheckFailed, match="B.onnx"):
        VerifyingKey(public).verify(here / "B.onnx")


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"null", b"[]", b"\xff\xfe", _nested(100_000), b'{"dsseEnvelope": 1}']
)
def test_damaged_signatures_are_refused(here, content):
    private, public = write_keys(here, "key")
    (here / "A.onnx").write_bytes(b"graph")
    signature_path(here / "A.onnx").write_bytes(content)
    with pytest.raises(CheckFailed, match="is not what was signed"):
        VerifyingKey(public).verify(here / "A.onnx")


def test_missing_signatures_and_files_that_are_none(here):
    private, public = write_keys(here, "key")
    model = here / "A.onnx"
    model.write_bytes(b"graph")
    with pytest.raises(CheckFailed, match="is not signed"):
        VerifyingKey(public).verify(model)
    os.mkfifo(signature_path(model))
    with pytest.raises(InputError, match="not a regular file"):
        VerifyingKey(public).verify(model)
    signature_path(model).unlink()
    with open(signature_path(model), "wb") as file:
        file.truncate(2**30)
    with pytest.raises(InputError, match="more than"):
        VerifyingKey(public).verify(model)


def test_keys_that_cannot_be_used(here):
    model = here / "A.pt"
    model.write_bytes(b"is not read, because the key is refused before")
    curve = ec.generate_private_key(ec.SECP256K1())
    write_keys(here, "curve", curve)
    write_keys(here, "rsa", rsa.generate_private_key(65537, 2048))
    write_keys(here, "locked", password=b"secret")
    (here / "text.pem").write_text("no key")
    os.mkfifo(here / "fifo.pem")
    for name in ("curve", "rsa", "locked", "text"):
        output = run(vgg_export, model, "--onnx", "--sign", here / f"{name}.pem", code=2)
        assert "no usable private key" in output, name
    for name, reason in (("fifo.pem", "not a regular file"), ("no.pem", "cannot be read")):
        assert reason in run(vgg_export, model, "--onnx", "--sign", here / name, code=2)
    assert "no usable public key" in run(vgg_predict, model, "-", "--verify", "text.pem", code=2)


def test_an_export_without_a_key_leaves_no_old_signature(signed):
    out = ("--onnx", "--out", signed / "exported", "--threads", 1)
    run(vgg_export, signed / "A.pt", *out)
    assert not (signed / "exported" / "A.fp32.onnx.sig").exists()
    run(vgg_export, signed / "exported" / "A.fp32.onnx", "--ncnn", "--sign", "k", code=2)
