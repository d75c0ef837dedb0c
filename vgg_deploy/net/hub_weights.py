"""Finds weights in repositories of the Hugging Face Hub, by huggingface_hub and its cache."""

import re
from pathlib import Path
from typing import NoReturn

from vgg_deploy.errors import InputError
from vgg_deploy.net.downloaded_files import check_digest, shown_in_logs
from vgg_deploy.net.timm_config import CONFIG
from vgg_deploy.regular_files import real_path

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository, the best first
WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
REPOSITORY = re.compile(
    rf"(?P<id>{WORD}/{WORD})(?:@(?P<revision>[A-Za-z0-9._-]+))?(?:/(?P<file>{WORD}(?:/{WORD})*))?"
)
SHA256 = re.compile(r"[0-9a-f]{64}")  # name of a large file's content in the cache


def hub_file(given: str, name: str) -> Path:
    """The weights of a repository, with its config.json beside them if it has one.

    Args:
        given: As the user gave it, for messages.
        name: OWNER/NAME, OWNER/NAME@REVISION, or either with /FILE.

    Returns:
        The file in the cache of huggingface_hub. Its whole content is checked against the digest
        that the Hub gave.

    Raises:
        InputError: If huggingface_hub is missing, the name is wrong, the repository has no such
            file, or it can be neither downloaded nor found in the cache.
    """
    parts = REPOSITORY.fullmatch(name)
    if not parts or ".." in name or "--" in parts["id"]:
        raise InputError(
            f"{given}: is no repository; write OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME/FILE"
        )
    files = (parts["file"],) if parts["file"] else HUB_FILES
    folder = files[0].rpartition("/")[0]
    unanswered: list[str] = []
    _find(given, parts, f"{folder}/{CONFIG}" if folder else CONFIG, unanswered)
    for file in files:
        path = _find(given, parts, file, unanswered)
        if path:
            check_digest(path, _digest_of(path), given)
            return path
    if unanswered:
        raise _offline(given, parts, files[0])
    raise InputError(
        f"{given}: the repository has no {' or '.join(files)}; name a file: "
        f"{given.partition('@')[0]}/FILE"
    )


def _find(given: str, parts: re.Match[str], file: str, unanswered: list[str]) -> Path | None:
    """A file of a repository; None if it has no such file, or if that cannot be known.

    Args:
        given: For messages.
        parts: Of `REPOSITORY`.
        file: Its path in the repository.
        unanswered: Files that are not in the cache and that the Hub could not be asked for. It gets
            this one too then. If there are any, the Hub is not asked again, which takes long.

    Raises:
        InputError: If the Hub refuses.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            LocalEntryNotFoundError,
            RemoteEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise InputError(
            f"{given}: needs huggingface_hub, which cannot be imported ({error}); "
            "pip install vgg-deploy[hub], or huggingface_hub alone"
        ) from None
    try:
        with shown_in_logs(f"looking for {file} of {parts['id']}"):
            found = hf_hub_download(
                parts["id"], file, revision=parts["revision"], local_files_only=bool(unanswered)
            )
            return Path(found)
    except RemoteEntryNotFoundError:
        return None
    except LocalEntryNotFoundError:
        unanswered.append(file)
        return None
    except RevisionNotFoundError:
        raise InputError(f"{given}: the repository has no such revision; correct it") from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{given}: there is no such repository, or it is private or gated; check the name, or "
            "log in with `hf auth login`"
        ) from None
    except (OSError, ValueError, RuntimeError) as error:
        _refuse(given, error)


def _offline(given: str, parts: re.Match[str], file: str) -> InputError:
    """What to do where the Hub cannot be asked and the file is not in the cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=parts["id"], repo_type="model")
    because = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "the Hub does not answer"
    return InputError(
        f"{given}: {file} is not in the cache, and {because}; download it where there is a "
        f"connection (`hf download {parts['id']}`) and copy {folder} from there to here, or name a "
        f"folder with {file} and {CONFIG}"
    )


def _digest_of(path: Path) -> str:
    """The sha256 that the Hub gave, by which the cache names the content; empty if unknown."""
    content = real_path(path).name
    return content if SHA256.fullmatch(content) else ""


def _refuse(given: str, error: Exception) -> NoReturn:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    raise InputError(f"{given}: cannot be downloaded ({reason}); try again later") from None
