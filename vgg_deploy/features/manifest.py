"""features.json, which says what a folder of features contains, with a sha256 of every file.

While the folder is being written it has features.part.json with the same settings, and one record
for every whole shard, shard-00000.json. features.json takes their place when all shards are whole.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy import __version__
from vgg_deploy.errors import InputError
from vgg_deploy.features.settings import AGAIN, SHA256, FeatureSettings
from vgg_deploy.files import write_text
from vgg_deploy.json_files import JsonObject, as_object, entry, read_json_object

FORMAT = "vgg-deploy-features"
VERSION = 1  # raise it when the files or the meaning of their numbers change
MANIFEST = "features.json"
PART = "features.part.json"


@dataclass(frozen=True)
class Shard:
    """A whole shard.

    Attributes:
        index: From 0.
        images: Rows of its arrays; fewer than the settings say where images were left out.
        sha256: Of its files by their names, hex.
    """

    index: int
    images: int
    sha256: dict[str, str]

    def to_fields(self) -> JsonObject:
        """All fields, ready for JSON."""
        return {"shard": self.index, "images": self.images, "sha256": self.sha256}

    @classmethod
    def from_fields(
        cls, fields: JsonObject, settings: FeatureSettings, index: int, where: str
    ) -> "Shard":
        """Read what `to_fields` wrote.

        Args:
            fields: A JSON object.
            settings: Of the folder.
            index: That the shard must have.
            where: Names the file in errors.

        Raises:
            InputError: If it is no such record, or that of another shard.
        """
        where = f"{where}: shard {index}"
        images = entry(fields, "images", int, where, AGAIN)
        digests = entry(fields, "sha256", dict, where, AGAIN)
        if entry(fields, "shard", int, where, AGAIN) != index:
            raise InputError(f"{where}: is shard {fields['shard']!r:.40}", AGAIN)
        if not 0 <= images <= len(settings.images_of(index)):
            raise InputError(
                f"{where}: has {images} images, expected at most {len(settings.images_of(index))}",
                AGAIN,
            )
        if {*digests} != {*file_names(settings, index)}:
            raise InputError(f"{where}: does not list its files", AGAIN)
        for name, digest in digests.items():
            if not isinstance(digest, str) or not SHA256.fullmatch(digest):
                raise InputError(f"{where}: the sha256 of {name} is {digest!r:.40}", AGAIN)
        return cls(index, images, digests)


@dataclass(frozen=True)
class Manifest:
    """The content of features.json."""

    settings: FeatureSettings
    shards: tuple[Shard, ...]


def list_name(shard: int) -> str:
    """Name of the list of a shard's images."""
    return f"images-{shard:05d}.csv"


def array_name(layer: str, shard: int, form: str) -> str:
    """Name of the file of a shard's descriptors from one layer."""
    return f"{layer}-{shard:05d}.{form}"


def record_name(shard: int) -> str:
    """Name of the record of a whole shard."""
    return f"shard-{shard:05d}.json"


def file_names(settings: FeatureSettings, shard: int) -> list[str]:
    """Names of all files of a shard: its list, then its layers in their order."""
    arrays = [array_name(layer, shard, settings.form) for layer in settings.layers]
    return [list_name(shard), *arrays]


def write_part(folder: Path, settings: FeatureSettings) -> None:
    """Write features.part.json.

    Raises:
        InputError: If it cannot be written.
    """
    write_text(folder / PART, _document(settings.to_fields()))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write features.json.

    Raises:
        InputError: If it cannot be written.
    """
    fields = manifest.settings.to_fields()
    shards = [shard.to_fields() for shard in manifest.shards]
    write_text(folder / MANIFEST, _document({**fields, "shards": shards}))


def read_part(folder: Path) -> FeatureSettings:
    """Read features.part.json.

    Raises:
        InputError: If it is missing or damaged.
    """
    return _settings(_fields(folder / PART), folder / PART)


def read_manifest(folder: Path) -> Manifest:
    """Read features.json.

    Raises:
        InputError: If it is missing or damaged.
    """
    path = folder / MANIFEST
    fields = _fields(path)
    settings = _settings(fields, path)
    records = entry(fields, "shards", list, str(path), AGAIN)
    if len(records) != settings.shard_count:
        raise InputError(
            f"{path}: lists {len(records)} shards, expected {settings.shard_count}", AGAIN
        )
    shards = [
        Shard.from_fields(as_object(record, f"{path}: shard {i}", AGAIN), settings, i, str(path))
        for i, record in enumerate(records)
    ]
    return Manifest(settings, tuple(shards))


def _document(fields: JsonObject) -> str:
    head = {"format": FORMAT, "version": VERSION, "written_by": f"vgg-deploy {__version__}"}
    return json.dumps({**head, **fields}, indent=1) + "\n"


def _fields(path: Path) -> JsonObject:
    """Read a document of this format and version."""
    fields = read_json_object(path, AGAIN)
    if fields.get("format") != FORMAT:
        raise InputError(f"{path}: is not the manifest of a folder of features", AGAIN)
    if fields.get("version") != VERSION or isinstance(fields["version"], bool):
        raise InputError(
            f"{path}: has format version {fields.get('version')!r:.40}, this program reads "
            f"{VERSION}",
            "write the features with this version",
        )
    return fields


def _settings(fields: JsonObject, path: Path) -> FeatureSettings:
    return FeatureSettings.from_fields(fields, str(path))
