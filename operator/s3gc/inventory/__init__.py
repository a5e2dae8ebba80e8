"""What is in the bucket: one complete listing, as Parquet files in key order."""
