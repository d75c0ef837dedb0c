"""From a batch to an update of the weights, and validation in between."""
