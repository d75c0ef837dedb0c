"""Signs exported files, and verifies them before anything reads them.

A signature covers a file and those that belong to it: manifest, weights outside. It is a Sigstore
bundle as the package model-signing writes it, made with an elliptic-curve key, so it needs no
network.
"""

import stat
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.metadata import (
    data_path,
    has_weights_beside,
    manifest_path,
    weights_path,
)
from vgg_deploy.files import whole_file

if TYPE_CHECKING:
    from model_signing import hashing

MOST_KEY_BYTES = 64 * 2**10
MOST_SIGNATURE_BYTES = 2**20
CURVES = "an elliptic-curve key in PEM (P-256, P-384 or P-521)"


def signature_path(path: Path) -> Path:
    """D.fp32.onnx -> D.fp32.onnx.sig."""
    return path.with_name(f"{path.name}.sig")


def signed_files(path: Path) -> list[Path]:
    """The files that a signature of `path` covers: itself, and those beside it that belong to it.

    Args:
        path: Checkpoint or exported file.
    """
    beside = [data_path(path), manifest_path(path)]
    if has_weights_beside(path):
        beside.append(weights_path(path))
    return [path, *(file for file in beside if file != path and file.is_file())]


class SigningKey:
    """A private key.

    Args:
        key: PEM file of a private key without a password.

    Raises:
        InputError: If the file holds no such key, or model-signing is not installed.
    """

    def __init__(self, key: Path):
        _check_package()
        _regular(key, MOST_KEY_BYTES)
        from model_signing import signing

        try:
            self._config = signing.Config().use_elliptic_key_signer(private_key=key)
        except Exception as error:  # of several packages, and of any type
            raise InputError(
                f"{key}: holds no usable private key ({type(error).__name__})",
                f"give {CURVES} without a password",
            ) from None

    def sign(self, path: Path) -> Path:
        """Write the signature of a file and of those that belong to it.

        Args:
            path: The file.

        Returns:
            The signature's path, beside the file.

        Raises:
            InputError: If a file cannot be read or the signature cannot be written.
        """
        self._config.set_hashing_config(_hashing(signed_files(path)))
        signature = signature_path(path)
        with whole_file(signature) as partial:
            try:
                self._config.sign(path.parent, partial)
            except ValueError as error:  # such as a symlink
                raise InputError(f"{path}: cannot be signed ({error})") from None
        return signature


class VerifyingKey:
    """A public key.

    Args:
        key: PEM file of a public key.

    Raises:
        InputError: If the file holds no such key, or model-signing is not installed.
    """

    def __init__(self, key: Path):
        _check_package()
        _regular(key, MOST_KEY_BYTES)
        from model_signing import verifying

        self._key = key
        try:
            self._config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        except Exception as error:  # of several packages, and of any type
            raise InputError(
                f"{key}: holds no usable public key ({type(error).__name__})", f"give {CURVES}"
            ) from None

    def verify(self, path: Path) -> None:
        """Check that a file, and those that belong to it, are what was signed with this key.

        Args:
            path: Checkpoint or exported file.

        Raises:
            CheckFailed: If there is no signature, it is another key's, or a file has changed, is
                missing or was added.
            InputError: If the file or its signature is not a regular file.
        """
        _regular(path)
        signature = signature_path(path)
        if not signature.exists():
            raise CheckFailed(
                f"{path}: is not signed, {signature.name} is not beside it; do not use it, or ask "
                "for its signature"
            )
        _regular(signature, MOST_SIGNATURE_BYTES)
        self._config.set_hashing_config(_hashing(signed_files(path)))
        try:
            self._config.verify(path.parent, signature)
        except Exception as error:  # whatever an untrusted signature causes, it is refused
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckFailed(
                f"{path}: is not what was signed with the key of {self._key.name} "
                f"({reason[:300]}); do not use it"
            ) from None


def _check_package() -> None:
    if find_spec("model_signing") is None or find_spec("OpenSSL") is None:
        raise InputError("model-signing is not installed", 'pip install "vgg-deploy[signing]"')


def _regular(path: Path, most_bytes: int | None = None) -> None:
    """Refuse what is not a regular file, or is too large to be what it is given for.

    Raises:
        InputError: If it is refused.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})", "check its name") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is not a regular file", "name a file")
    if most_bytes is not None and status.st_size > most_bytes:
        raise InputError(f"{path}: has more than {most_bytes} bytes", "check its name")


def _hashing(files: list[Path]) -> "hashing.Config":
    """Hash these files and no others of their folder.

    Left alone, model-signing hashes the whole folder, or whatever a signature lists: a renamed
    signature of another file would then pass.
    """
    from model_signing import hashing

    class Files(hashing.Config):
        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> Any:
            return super().hash(model_path, files_to_hash=files)

    return Files()  # type: ignore[no-untyped-call]
