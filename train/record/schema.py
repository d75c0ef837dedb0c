"""Describes every column of the tables of a training run."""

from vgg_deploy.table_schema import Table, columns

METRICS = Table(
    "metrics.csv",
    "One row per epoch.",
    (
        *columns(
            "whole number",
            epoch="number of the epoch, from 1",
            step="updates of the weights so far",
        ),
        *columns(
            "number",
            lr="learning rate",
            train_loss="mean cross-entropy of the training batches",
            train_top1_error_pct="top-1 error on the training batches, with dropout",
            train_top5_error_pct="top-5 error, likewise",
            val_top1_error_pct="top-1 error on the validation images",
            val_top5_error_pct="top-5 error on the validation images",
            images_per_s="training images per second",
            elapsed_s="seconds of training so far, pauses left out",
        ),
        *columns(
            "whole number",
            val_images="validation images that the errors rest on; missing in the first rows of "
            "runs of an earlier version",
        ),
    ),
)
STEPS = Table(
    "steps.csv",
    "One row per few updates of the weights.",
    (
        *columns(
            "whole number",
            step="updates of the weights so far",
            epoch="number of the epoch under way, from 1",
        ),
        *columns(
            "number",
            lr="learning rate",
            train_loss="mean cross-entropy since the last row",
            train_top1_error_pct="top-1 error since the last row, with dropout",
            images_per_s="training images per second since the last row",
        ),
    ),
)
BOX_METRICS = Table(
    "metrics.csv of a localiser",
    "One row per epoch; the columns above, and in place of top-1 and top-5 errors these.",
    (
        *columns(
            "number",
            train_localisation_error_pct="training boxes of the true class that are wrong, with "
            "dropout",
            train_mean_iou_pct="mean intersection over union of these boxes",
            val_localisation_error_pct="wrong boxes of the true class on centre crops of the "
            "validation images, as Table 8",
            val_mean_iou_pct="mean intersection over union of these boxes",
        ),
    ),
)
OF_TRAIN = (METRICS, STEPS, BOX_METRICS)
