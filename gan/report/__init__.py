"""One page about a run: the paper's tables and figures as they come out here, and why some cannot come out at all."""
