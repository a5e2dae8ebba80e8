"""Real servers for the tests: built, started, ended. See `services` (processes) and `tools` (binaries)."""
