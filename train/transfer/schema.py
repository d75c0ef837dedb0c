"""Describes every column of the tables of `python -m train.transfer`."""

from vgg_deploy.table_schema import Table, columns

SUMMARY = Table(
    "summary.csv",
    "One row per measure of the task.",
    (
        *columns(
            "text",
            task="single or multi",
            measure="recall, ap_2007 or ap_2010: by class, then the mean over classes",
        ),
        *columns(
            "number",
            mean_pct="mean over the splits",
            sd_pct="standard deviation over the splits, with n - 1; missing for one split",
        ),
        *columns(
            "whole number",
            splits="number of splits",
            classes="number of classes",
            width="numbers in a descriptor",
        ),
        *columns("text", c="C of each split, separated by spaces"),
        *columns("True or False", converged="whether all SVMs that were scored converged"),
        *columns("text", data="name of a data set that was recognised; else empty"),
    ),
)
SPLITS = Table(
    "splits.csv",
    "One row per split.",
    (
        *columns(
            "whole number",
            split="number of the split, from 1",
            train="training images",
            test="test images",
        ),
        *columns("number", c="C that was chosen"),
        *columns(
            "number",
            recall_pct="mean class recall; missing for the multi task",
            ap_2007_pct="mean average precision by VOC's rule of 2007; missing for the single task",
            ap_2010_pct="likewise by the rule since 2010",
        ),
        *columns("True or False", converged="whether the SVMs that were scored converged"),
    ),
)
CLASSES = Table(
    "classes.csv",
    "One row per class and split.",
    (
        *columns("whole number", split="number of the split, from 1"),
        *columns("text", name="id of the class"),
        *columns(
            "whole number",
            train="training images that show the class",
            test="test images that show it",
        ),
        *columns(
            "number",
            recall_pct="share of these test images with this class; missing for the multi task",
            ap_2007_pct="average precision by VOC's rule of 2007; missing for the single task",
            ap_2010_pct="likewise by the rule since 2010",
        ),
        *columns(
            "whole number",
            difficult="test images that show it only in difficult objects and were left out",
        ),
    ),
)
GRID = Table(
    "c_grid.csv",
    "One row per split and C that was tried on the held-out images.",
    (
        *columns("whole number", split="number of the split, from 1"),
        *columns(
            "number",
            c="weight of the losses",
            score_pct="mean class recall, or mean average precision by the rule that was asked for",
        ),
        *columns(
            "True or False",
            converged="whether all SVMs converged",
            chosen="whether this C was chosen",
        ),
    ),
)
PAPER = Table(
    "paper_tables.csv",
    "Tables 11 and 12 of the paper row by row, and one row for this run.",
    (
        *columns("text", table="11 or 12; `this run` for the last row", method="net or author"),
        *columns(
            "number",
            voc2007_map_pct="VOC-2007, mean average precision",
            voc2012_map_pct="VOC-2012, likewise",
            caltech101_recall_pct="Caltech-101, mean class recall",
            caltech101_sd="its standard deviation over splits",
            caltech256_recall_pct="Caltech-256, likewise",
            caltech256_sd="its standard deviation over splits",
            voc2012_action_map_pct="VOC-2012 actions, mean average precision",
            other_pct="this run's measure on a data set that is none of these",
            other_sd="its standard deviation over splits",
        ),
        *columns("text", note="what differs from the other rows"),
    ),
)
OF_TRANSFER = (SUMMARY, SPLITS, CLASSES, GRID, PAPER)
