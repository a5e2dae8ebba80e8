"""Who may go: from a listing and the references to a plan that can be believed.

Files in, files out. `join` takes the inventory and the read references and leaves candidates; `maturity`
remembers how long each has been unreferenced; `planfile` and `digest` make the exact list that a person can
approve; `guards` ask whether any of it is too big, too small or too sudden to be true; `explain` says the
same about one key.

Nothing here talks to a bucket, a database or the vault, so every step can be repeated, inspected with any
Parquet tool, or run over a range of keys by another process.
"""
