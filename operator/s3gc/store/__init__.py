"""One way to S3 and one way to a folder: bytes and facts in, bytes and facts out, no opinion on what they
mean.

`bucket.Bucket` is a customers' bucket (any key, versions, conditions); `storage.open_storage` is where a
vault lives. Every request to S3 goes through `transport.Transport`: signed, limited, timed, retried only
where that is safe. Above this package nobody speaks HTTP.
"""
