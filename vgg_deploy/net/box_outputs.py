"""Names the ways in which a net states boxes and boxes are merged, for options and records.

A net states one box for all classes (shared, the paper's SCR) or one for each (per-class, PCR), in
one of several forms, see `vgg_deploy.boxes.forms`.
"""

BOX_OUTPUTS = ("shared", "per-class")
BOX_FORM_NAMES = ("centre", "edges")
USUAL_FORM = "centre"
# what the coordinates of annotations mean, see `vgg_deploy.data.annotations`
BOX_COORDINATES = ("voc", "edges")
NUMBERS = 4  # of a box
# of the merging of boxes, see `vgg_deploy.boxes.merging`
MATCH = 0.6  # t: boxes that match worse are not merged; chosen on built-in training images
TOP_CLASSES = 5  # k: a scale contributes the boxes of so many classes


def output_channels(boxes: str, classes: int) -> int:
    """Channels of the last layer of a net that states boxes.

    Args:
        boxes: One of BOX_OUTPUTS.
        classes: Number of classes.
    """
    return NUMBERS * (classes if boxes == "per-class" else 1)
