"""The nets of Table 1, their checkpoints, and weights of other projects."""
