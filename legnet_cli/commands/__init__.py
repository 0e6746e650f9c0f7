"""Commands: parse the flags, call one verb, show its result."""
