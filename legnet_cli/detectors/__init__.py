"""From the name of weights to a detector: weight files and recipes, networks, runtimes, export, and mmrotate's door."""
