"""Proven copies: objects into packs, read back before anything is deleted, and back into the bucket when
asked.

`backup` fetches and packs a group, `packs` is how a pack is made and proven, `reading` gives an object's
bytes back, `bringing` puts one object back without overwriting anything newer, `restore` does that for an
operation, `retention` ends what is old, `verifying` reads a whole vault back.
"""
