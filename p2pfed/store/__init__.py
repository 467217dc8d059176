"""What a centre keeps on disk: blocks, local rows, the high-water file, spools and keys."""
