"""Applications that carry s3gc inside: each integration is a module here, above the engine, never below it."""
