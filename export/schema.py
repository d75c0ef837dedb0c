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
        *columns("whole number", images="how many were measured"),
    ),
)
OF_EXPORT = (SENSITIVITY,)
