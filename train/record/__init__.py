"""What a run keeps on disk, and pictures of it."""
