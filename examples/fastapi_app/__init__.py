"""A small application with s3gc inside. `make example-app` starts it on this machine and needs nothing else."""
