"""Change capture: what was written to the watched columns since the scan, proven up to now."""
