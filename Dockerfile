# One image for the operator and for its Jobs: everything is `s3gc`.
#
#   docker build -t s3gc .          (or buildah, podman, kaniko; nothing here is BuildKit's alone)
#
# Every package comes from a lock file with hashes. Behind a proxy with certificates of its own pass SSL_CERT_FILE and
# PIP_CERT, for an index of your own PIP_INDEX_URL and UV_DEFAULT_INDEX, as build arguments; none of them stays in the image.
# A build is reproducible where the base is: name it by digest, and give the tool a time (buildah: --timestamp 0,
# docker: SOURCE_DATE_EPOCH=0 with rewrite-timestamp).
ARG BASE_IMAGE=docker.io/library/python:3.13-slim

FROM ${BASE_IMAGE} AS build
ARG SSL_CERT_FILE
ARG PIP_CERT
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
WORKDIR /build

# The environment first: it changes with the locks alone, so this layer is built seldom.
COPY requirements-build.lock requirements-image.lock ./
RUN python3 -m venv tools \
 && tools/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-build.lock \
 && python3 -m venv --without-pip /opt/s3gc \
 && tools/bin/uv pip sync --quiet --no-cache --link-mode copy --python /opt/s3gc/bin/python --require-hashes requirements-image.lock
# A third of it is never read: sources and tests of compiled packages, Arrow's RPC and S3, the other 400 services of AWS.
RUN cd /opt/s3gc/lib/python3*/site-packages \
 && rm -rf pyarrow/tests pyarrow/include pyarrow/src pyarrow/libarrow_flight* pyarrow/_flight* pyarrow/flight.py \
           pyarrow/libarrow_s3* pyarrow/_s3fs* \
 && find . -type f \( -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' \) -delete \
 && find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name 'sso*' ! -name sts ! -name signin -exec rm -rf {} +

COPY pyproject.toml README.md LICENSE ./
COPY operator operator
# The root is read-only at run time, so what Python would write at the first start is made here, without a time in it.
RUN SOURCE_DATE_EPOCH=0 tools/bin/python -m hatchling build -t wheel -d dist >/dev/null \
 && tools/bin/uv pip install --quiet --no-cache --no-deps --python /opt/s3gc/bin/python dist/*.whl \
 && /opt/s3gc/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/s3gc/lib

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="s3gc" \
      org.opencontainers.image.description="The garbage collector for S3 buckets whose truth is in a database" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN printf 's3gc:x:65532:65532::/tmp:/usr/sbin/nologin\n' >> /etc/passwd && printf 's3gc:x:65532:\n' >> /etc/group
COPY --from=build /opt/s3gc /opt/s3gc
ENV PATH=/opt/s3gc/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp
# By number, so that `runAsNonRoot` can be checked without reading the image's /etc/passwd.
USER 65532:65532
ENTRYPOINT ["s3gc"]
