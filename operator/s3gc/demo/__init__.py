"""What `s3gc demo` plays with: a small shop (`shop`) and a store inside the process (`store`). Nothing of the engine is
different in the demo; only the bucket and the database are made up."""
