"""Holds the arithmetic of load tests: when requests arrive, and what their latencies show.

Not named `load`: that is the function `vgg_deploy.load`.
"""
