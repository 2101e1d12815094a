"""From evidence to conclusions that rules share; one subject a module."""
