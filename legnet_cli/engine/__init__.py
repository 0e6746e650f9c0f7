"""Verbs, one a file: typed configuration in, typed result out, nothing printed."""
