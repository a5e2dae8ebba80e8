"""The only part of s3gc that deletes: verify, delete restorably, wait out the writers, verify again, bring back.

Everything above this package decides what *may* go; here it is checked once more, one group at a time, at the
moment when it matters. See `sweep.sweep` for the order and `sweep.check` for why that order is safe.
"""
