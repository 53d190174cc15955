"""What a person runs: one module or folder for each command, or for those of one subject."""
