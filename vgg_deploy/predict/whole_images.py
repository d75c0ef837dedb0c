"""Gives images whole to files that rescale by themselves, and rescaled to all others."""

from collections.abc import Sequence

from vgg_deploy.data.decode_pool import AS_STORED
from vgg_deploy.errors import InputError
from vgg_deploy.images.protocols import DENSE, PROTOCOLS, WHOLE_IMAGE
from vgg_deploy.runtimes.contract import Runtime
from vgg_deploy.runtimes.graph_interface import interface_of


def rescales(runtime: Runtime) -> bool:
    """Whether a file rescales whole images by itself."""
    return interface_of(runtime).side is not None


def filter_for(runtime: Runtime) -> str:
    """How images are rescaled ahead of a file: the filter of its net, or AS_STORED."""
    return AS_STORED if rescales(runtime) else runtime.spec.preprocessing.filter


def scores_protocol(runtime: Runtime, protocol: str) -> bool:
    """Whether a file can be tested in a way; every way is open for one that does not rescale.

    A graph of one shape takes no whole images if it is of the crop's size, and else no crops.

    Args:
        runtime: With the file.
        protocol: Name in PROTOCOLS.
    """
    interface, crop = interface_of(runtime), runtime.spec.crop
    views = set(PROTOCOLS[protocol].view_sets)
    if interface.side is not None:
        return views == {"centre"} if interface.view == "centre" else views <= set(WHOLE_IMAGE)
    if interface.shape is None:
        return True
    return not views & set(WHOLE_IMAGE) if interface.shape[1:] == (crop, crop) else views == {DENSE}


def own_protocol(runtime: Runtime) -> str:
    """How a file is tested if nothing else is asked for."""
    interface = interface_of(runtime)
    return interface.view if interface.side is not None else DENSE


def refuse_other_views(
    runtime: Runtime, protocol: str, sides: Sequence[int] | None
) -> tuple[int, ...] | None:
    """Check how a file is to be tested, if it rescales by itself.

    Args:
        runtime: With the file.
        protocol: Name in PROTOCOLS.
        sides: Q in pixels; None: the file's own.

    Returns:
        Q; as given for a file that does not rescale.

    Raises:
        InputError: For another Q or other views than the file's own.
    """
    interface = interface_of(runtime)
    if interface.side is None:
        return None if sides is None else tuple(sides)
    own = (interface.side,)
    if not scores_protocol(runtime, protocol) or (sides is not None and tuple(sides) != own):
        raise InputError(
            f"{runtime.where}: rescales to Q {interface.side} by itself and scores "
            f"{own_protocol(runtime)}; ask for nothing else, or open the weights"
        )
    return own
