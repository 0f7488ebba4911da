# One image for brokers and for the command line: docker run minikafka --help
FROM python:3.11-slim-bookworm AS build

# What checks the records of producers is compiled here; the image itself has no compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY pyproject.toml README.md LICENSE /src/
COPY minikafka /src/minikafka
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels /src

FROM python:3.11-slim-bookworm

RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --disable-pip-version-check /wheels/*.whl

# A named volume takes the owner of the folder that it is mounted over.
RUN useradd --system --uid 10001 --no-create-home minikafka \
    && install --directory --owner=minikafka /var/lib/minikafka
USER minikafka
WORKDIR /var/lib/minikafka
VOLUME /var/lib/minikafka
EXPOSE 19092

HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=5 \
    CMD ["python", "-m", "minikafka.rpc.healthcheck", "127.0.0.1:19092"]

ENTRYPOINT ["minikafka"]
CMD ["--help"]
