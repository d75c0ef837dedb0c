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
OF_TRAIN = (METRICS, STEPS)
