"""What a run leaves behind: its folder with checkpoints and tables, its curves, its log."""
