"""Says what a folder of features contains: the net, its layers, the protocol and the images."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from vgg_deploy.errors import InputError
from vgg_deploy.json_files import JsonObject, entry, is_text
from vgg_deploy.number_bounds import MOST_IMAGES, MOST_SIDE

PROTOCOLS = ("dense",)  # the average over the positions of the whole image, appendix B
JOINED = ("average", "stack")  # descriptors of several scales: their mean, or side by side
FORMS = ("npy", "parquet")
LAYER = re.compile(r"[a-z][a-z0-9_]{0,31}")
SHA256 = re.compile(r"[0-9a-f]{64}")
MOST_WIDTH = 2**24  # numbers of one descriptor
MOST_LAYERS = 256
MOST_SCALES = 64
MOST_SHARDS = 1_000_000
MOST_SHARD_BYTES = 2**32  # of one layer
AGAIN = "write the features again"
# What a user calls things, and what follows from the sha256: they change no number
NOT_COMPARED = ("model.name", "model.artifact", "data.name")
OTHERS = {  # what a difference of these means
    "model.sha256": "the model is another file",
    "data.sha256": "the images are others, or have changed",
}


@dataclass(frozen=True)
class FeatureModel:
    """The net that gave the features.

    Attributes:
        name: The file, or what the user called it.
        sha256: Of the weights or of the exported file, hex.
        arch: A column of Table 1.
        runtime: "torch", "onnxruntime", ...
        precision: "fp32", ...
        artifact: The record of an exported file, ready for JSON; empty for weights.
        input: What was assumed or stated of the input of another project's weights; empty where
            the file says it.
    """

    name: str
    sha256: str
    arch: str
    runtime: str
    precision: str
    artifact: dict[str, Any] = field(default_factory=dict)
    input: str = ""


@dataclass(frozen=True)
class FeatureData:
    """The images.

    Attributes:
        name: Of the folder or the address.
        sha256: Identity of the data set, hex: of its images' bytes, or of its names, sizes and
            times.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class FeatureSettings:
    """Everything that the numbers of a folder depend on, and how they are stored.

    Attributes:
        model: The net.
        data: The images.
        layers: Length d of the descriptor by the name of the layer, in their order. fc7 is the
            layer before its ReLU, relu7 after it.
        scales: Q, shorter sides in pixels, ascending.
        flips: Whether the descriptor is the mean with that of the mirrored image.
        protocol: One of PROTOCOLS.
        joined: One of JOINED. A stacked descriptor has the scales in their order.
        l2: Whether each descriptor has been divided by its Euclidean norm, at the end.
        count: Images of the data set.
        images_per_shard: Images that a shard stands for; the last one for fewer.
        form: "npy" or "parquet".
    """

    model: FeatureModel
    data: FeatureData
    layers: dict[str, int]
    scales: tuple[int, ...]
    flips: bool
    joined: str
    l2: bool
    count: int
    images_per_shard: int
    protocol: str = "dense"
    form: str = "npy"

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            InputError: If one is out of range, or if two contradict each other.
        """
        for digest in (self.model.sha256, self.data.sha256):
            if not SHA256.fullmatch(digest):
                raise InputError(f"sha256 {digest!r:.80} is not 64 hexadecimal digits")
        for text in (*asdict(self.model).values(), *asdict(self.data).values()):
            if isinstance(text, str) and not is_text(text):
                raise InputError(f"{text!a:.60} is not text in UTF-8 (half a character)")
        for name, known in (("protocol", PROTOCOLS), ("joined", JOINED), ("form", FORMS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} {getattr(self, name)!r:.60} is unknown; "
                    f"choose one of {', '.join(known)}"
                )
        if not 0 < len(self.scales) <= MOST_SCALES or sorted(set(self.scales)) != [*self.scales]:
            raise InputError(
                f"scales {str([*self.scales]):.60} are not 1 to {MOST_SCALES} different sides "
                "in ascending order"
            )
        if not 0 < self.scales[0] <= self.scales[-1] <= MOST_SIDE:
            raise InputError(
                f"scales {str([*self.scales]):.60} have a side outside 1 to {MOST_SIDE}"
            )
        if not 0 < self.count <= MOST_IMAGES:
            raise InputError(f"count {self.count} is not a number of images from 1 to 1e9")
        if not 0 < self.images_per_shard <= MOST_IMAGES or self.shard_count > MOST_SHARDS:
            raise InputError(
                f"{self.images_per_shard} images per shard make more than {MOST_SHARDS:,} shards, "
                "or none"
            )
        self._check_layers()

    def _check_layers(self) -> None:
        if not 0 < len(self.layers) <= MOST_LAYERS:
            raise InputError(f"{len(self.layers)} layers are named; name 1 to {MOST_LAYERS}")
        for name, width in self.layers.items():
            if not LAYER.fullmatch(name):
                raise InputError(f"{name!r:.60} is not the name of a layer, such as relu7")
            if not 0 < width <= MOST_WIDTH:
                raise InputError(f"{name} has {width} numbers, expected 1 to {MOST_WIDTH:,}")
            if self.joined == "stack" and width % len(self.scales):
                raise InputError(
                    f"{name} has {width} numbers, which {len(self.scales)} scales cannot have "
                    "in equal parts"
                )
            if 4 * width * min(self.images_per_shard, self.count) > MOST_SHARD_BYTES:
                raise InputError(
                    f"a shard of {self.images_per_shard} images with {width} numbers of {name} "
                    "takes more than 4 GiB; use fewer images per shard"
                )

    @property
    def shard_count(self) -> int:
        """Number of shards."""
        return -(-self.count // self.images_per_shard)

    def images_of(self, shard: int) -> range:
        """The images that a shard stands for, by their index in the data set.

        Args:
            shard: From 0.
        """
        begin = shard * self.images_per_shard
        return range(begin, min(begin + self.images_per_shard, self.count))

    def to_fields(self) -> JsonObject:
        """All fields, ready for JSON."""
        return {**asdict(self), "scales": list(self.scales), "dtype": "float32"}

    @classmethod
    def from_fields(cls, fields: JsonObject, where: str) -> "FeatureSettings":
        """Read what `to_fields` wrote; other fields are ignored.

        Args:
            fields: A JSON object.
            where: Names the file in errors.

        Raises:
            InputError: If a field is missing, has another type or is not valid.
        """
        model = JsonObject(entry(fields, "model", dict, where, AGAIN))
        data = JsonObject(entry(fields, "data", dict, where, AGAIN))
        scales = entry(fields, "scales", list, where, AGAIN)
        layers = JsonObject(entry(fields, "layers", dict, where, AGAIN))
        if not all(type(side) is int for side in scales):
            raise InputError(f"{where}: scales are {scales!r:.60}, expected: integers", AGAIN)
        if entry(fields, "dtype", str, where, AGAIN) != "float32":
            raise InputError(f"{where}: dtype is {fields['dtype']!r:.60}, expected: float32", AGAIN)

        widths = {name: entry(layers, name, int, f"{where}: layers", AGAIN) for name in layers}

        def text(key: str) -> str:
            return entry(fields, key, str, where, AGAIN)

        def number(key: str) -> int:
            return entry(fields, key, int, where, AGAIN)

        def flag(key: str) -> bool:
            return entry(fields, key, bool, where, AGAIN)

        try:
            return cls(
                model=_model(model, f"{where}: model"),
                data=FeatureData(
                    entry(data, "name", str, f"{where}: data", AGAIN),
                    entry(data, "sha256", str, f"{where}: data", AGAIN),
                ),
                layers=widths,
                scales=tuple(scales),
                flips=flag("flips"),
                joined=text("joined"),
                l2=flag("l2"),
                count=number("count"),
                images_per_shard=number("images_per_shard"),
                protocol=text("protocol"),
                form=text("form"),
            )
        except InputError as error:
            if error.what.startswith(where):
                raise
            raise InputError(f"{where}: {error.message}") from None

    def difference(self, other: "FeatureSettings") -> str | None:
        """The first field in which two settings differ, names apart.

        Args:
            other: Settings that are compared with these.

        Returns:
            Such as "scales is [256], not [384]", with these settings first; None if the numbers
            are the same.
        """
        if [*self.layers] != [*other.layers]:
            return f"the layers are {', '.join(self.layers)}, not {', '.join(other.layers)}"
        mine, theirs = _flat(self.to_fields()), _flat(other.to_fields())
        for key in (*mine, *(key for key in theirs if key not in mine)):
            if key not in NOT_COMPARED and mine.get(key) != theirs.get(key):
                change = f"{key} is {mine.get(key)!r:.80}, not {theirs.get(key)!r:.80}"
                return OTHERS.get(key, change)
        return None


def _model(fields: JsonObject, where: str) -> FeatureModel:
    def text(key: str) -> str:
        return entry(fields, key, str, where, AGAIN)

    return FeatureModel(
        name=text("name"),
        sha256=text("sha256"),
        arch=text("arch"),
        runtime=text("runtime"),
        precision=text("precision"),
        artifact=entry(fields, "artifact", dict, where, AGAIN),
        input=text("input"),
    )


def _flat(fields: JsonObject) -> JsonObject:
    """The fields of the inner objects as model.arch and so on."""
    found: JsonObject = {}
    for key, value in fields.items():
        if isinstance(value, dict) and key != "model.artifact":
            found |= _flat({f"{key}.{inner}": content for inner, content in value.items()})
        else:
            found[key] = value
    return found
