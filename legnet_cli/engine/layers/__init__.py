"""Layers of objects, as ``legnet predict`` writes them, for the verbs that look at them again."""
