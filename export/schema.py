"""Describes every column of the tables that vgg-export writes."""

from vgg_deploy.table_schema import Table, columns

SENSITIVITY = Table(
    "sensitivity.csv",
    "One row per convolution and precision: this layer alone is quantized.",
    (
        *columns(
            "text",
            layer="name of the convolution",
            precision="int8, int8-cpu, fp8, int4 or int4-cpu",
        ),
        *columns(
            "number",
            threshold="largest magnitude of its input; beyond it values are clipped",
            sqnr_db="of the mean scores: 10 log10 of the signal's power over the error's",
            agreement_pct="images whose best class is that of float32",
        ),
        *columns(
            "whole number",
            images="how many the layer was tried on; fewer for an early layer, see Export",
        ),
    ),
)
TRIALS = Table(
    "trials.csv",
    "One row per set of layers that was tried for `--max-top1-drop`, in the order of the trials.",
    (
        *columns(
            "text",
            step="alone: one layer is quantized, simulated; choosing: layers are kept in float, "
            "simulated; judging: the file itself",
            alone="the layer that is quantized alone; empty in other steps",
            kept="layers in float besides fc8 and those of --keep, with spaces between",
        ),
        *columns(
            "whole number",
            images="how many were measured",
            lost="images that only the float32 net has right; without labels, changed answers; "
            "missing for alone",
            won="images that only the quantized net has right; missing for alone",
        ),
        *columns(
            "number",
            loss_pct="lost less won, in percentage points; missing for alone",
            high_pct="its one-sided upper bound; for choosing that of as many images as judge, at "
            "the same rates; missing for alone",
            level_pct="chance that the loss exceeds that bound; missing for alone",
            sqnr_db="of the mean scores, for alone; else missing",
        ),
        *columns(
            "text", passes="yes or no: whether the bound is within the limit; empty for alone"
        ),
    ),
)
OF_EXPORT = (SENSITIVITY, TRIALS)
