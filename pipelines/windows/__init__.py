"""Stage 2: panes become windows, baselines, and findings of windows and feeders."""
