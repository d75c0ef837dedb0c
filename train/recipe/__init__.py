"""What a training run does, as data: its config, stages and rates."""
