"""What keeps the trials of one process apart: each gets what the first one got."""
