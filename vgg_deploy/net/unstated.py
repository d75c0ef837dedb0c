"""What a file does not say and only its user knows."""

from vgg_deploy.errors import InputError


class Unstated(InputError):
    """A setting that a file leaves open, and for which no safe default exists."""

    def __init__(self, setting: str, what: str):
        """Args: setting, "classes" or "crop"; what, which file leaves it open and why it matters."""
        super().__init__(what, about=setting)
        self.args = (setting, what)  # what pickle calls this class with
