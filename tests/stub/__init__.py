"""A stub S3 server for what real ones cannot be made to do: a million keys at no cost, any key, any fault."""
