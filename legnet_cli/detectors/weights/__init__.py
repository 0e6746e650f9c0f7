"""Weight files, their cards and recipes: plain data and files."""
