"""Matches the classes of a net with those of a data set: by their ids, or by their order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import ClassList, some
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.net.unstated import Unstated


@dataclass(frozen=True)
class Matching:
    """The classes of a net by the ids of a data set."""

    classes: tuple[str, ...]  # of the net, in the order of its scores
    assumed: str = ""  # where the net has no ids: the order that was assumed, for people


def match_classes(
    data_ids: tuple[str, ...],
    spec: NetSpec,
    stated: bool,
    data: str,
    where: str,
    numbering: tuple[str, ...] = (),
) -> Matching:
    """Match classes by id, so that a data set may have fewer than the net.

    A net whose classes nobody named is numbered from 0. Folders that are named 0 to N-1 match it by
    number. Folders named by other numbers do not match: they may be counted from 1, or be a part.
    Folders with names match it in their sorted order, if there are as many as the net has classes.

    Args:
        data_ids: Of the data set, sorted as text; none for images without labels.
        spec: The net.
        stated: Whether `spec.classes` are ids in any case, because the user gave them.
        data: Names the data set in messages.
        where: Names the file of the net in messages.
        numbering: Ids of all classes of the problem that the data are a part of, in the order that
            nets without ids have; empty if it is unknown.

    Raises:
        InputError: For classes that the net does not have.
        Unstated: For a net without ids whose order cannot be taken from the data.
    """
    known = set(spec.classes)
    unknown = [id for id in data_ids if id not in known]
    count = len(spec.classes)
    if stated or spec.classes != numbered(count):
        if unknown:
            raise InputError(_lacking(unknown, data_ids, spec, data, where))
        return Matching(spec.classes)
    if not data_ids:
        return Matching(spec.classes)
    if count == len(numbering):
        order = f"taken in the order {some(numbering)} of the data set that {data} belongs to"
        return Matching(numbering, f"names no classes: {order}")
    if all(_is_number(id) for id in data_ids):
        return _by_number(data_ids, spec, data, where)
    if len(unknown) < len(data_ids):
        raise InputError(_lacking(unknown, data_ids, spec, data, where))
    if count != len(data_ids):
        raise Unstated(
            "classes",
            f"{where}: its {count} classes are numbered and have no ids, so they can only be "
            f"matched by order, but {data} has {len(data_ids)}; use data with all {count} "
            "classes, or name the classes of the net",
        )
    order = f"taken in the order {some(data_ids)} of {data}"
    return Matching(data_ids, f"names no classes: {order}")


def with_classes(spec: NetSpec, listed: ClassList, where: str) -> NetSpec:
    """Name the classes of a net.

    Args:
        spec: The net.
        listed: Its classes, in the order of its scores.
        where: Names the file of the net in errors.

    Returns:
        The net with these classes.

    Raises:
        InputError: If the list has another length, or contradicts the ids that the file has.
    """
    ids, names = listed
    if len(ids) != len(spec.classes):
        raise InputError(
            f"{where}: scores {len(spec.classes)} classes, the class list has {len(ids)}; "
            "give the list that the net was trained with"
        )
    if spec.classes == ids:
        return replace(spec, names=names) if spec.names == spec.classes else spec
    if spec.classes != numbered(len(ids)):
        differing = next(i for i, own in enumerate(spec.classes) if own != ids[i])
        raise InputError(
            f"{where}: names its own classes, and its class {differing} is "
            f"{spec.classes[differing]}, not {ids[differing]} as the class list says; "
            "leave the list out, or correct it"
        )
    return replace(spec, classes=ids, names=names)


def _by_number(data_ids: tuple[str, ...], spec: NetSpec, data: str, where: str) -> Matching:
    """Match folders that are named by numbers with a net that is numbered from 0."""
    count = len(spec.classes)
    if set(data_ids) == set(spec.classes):
        order = f"counted from 0 as the classes {some(spec.classes)} of {data} are named"
        return Matching(spec.classes, f"names no classes: {order}")
    if [int(id) for id in data_ids] == list(range(count)):  # with leading zeros
        order = f"counted from 0 as the classes {some(data_ids)} of {data} are named"
        return Matching(data_ids, f"names no classes: {order}")
    raise Unstated(
        "classes",
        f"{where}: names no classes, and those of {data} are numbers ({some(data_ids)}) but not 0 "
        f"to {count - 1}: they may be counted from 1, be a part of the classes, or be in another "
        "order, and the file does not say which; name the net's classes as the folders are named",
    )


def _is_number(id: str) -> bool:
    return id.isascii() and id.isdecimal() and len(id) < 19


def _lacking(
    unknown: Sequence[str], data_ids: Sequence[str], spec: NetSpec, data: str, where: str
) -> str:
    return (
        f"{where}: its {len(spec.classes)} classes lack {len(unknown)} of the {len(data_ids)} of "
        f"{data}: {some(unknown)}; use a net trained on these classes, or data of the net's "
        f"classes ({some(spec.classes)})"
    )
