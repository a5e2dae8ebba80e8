"""The plugin's rooms: models, tokens, problems, runs, schedule, events and routes. `integrations.fastapi` is the door.

Everything in here stands above the engine and beside the command line: it answers over HTTP what `s3gc` answers on a
terminal, from the same functions. Nothing in here decides what may be deleted.
"""
