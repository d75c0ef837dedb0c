"""Defines the error for what a file leaves open and only its user knows."""

from vgg_deploy.errors import InputError


class Unstated(InputError):
    """A setting that a file leaves open, and for which no safe default exists.

    Args:
        setting: "classes" or "crop".
        what: Which file leaves it open, and why it matters.
    """

    def __init__(self, setting: str, what: str):
        super().__init__(what, about=setting)
        self.args = (setting, what)  # what pickle calls this class with
