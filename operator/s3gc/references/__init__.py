"""What the databases point at: sources that are read, formats that are understood, keys that are matched."""
