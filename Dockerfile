# gridwatch with Python 3.11 and Java 17: Spark's own images carry another Python than its workers would need.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless procps \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 10001 gridwatch \
    && install -d -o gridwatch -g gridwatch \
        /opt/gridwatch/cache /var/lib/gridwatch/checkpoint /var/lib/gridwatch/generator

WORKDIR /opt/gridwatch/source
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY pipelines pipelines
COPY generator generator
RUN pip install --no-cache-dir -c conf/constraints.txt . \
    && python -m pipelines.package /opt/gridwatch/gridwatch.zip

# The jars of conf/spark-defaults.conf are fetched now, so that a container needs no network beyond its own.
# A mirror: docker compose build --build-arg DEFAULT_ARTIFACT_REPOSITORY=...
ARG DEFAULT_ARTIFACT_REPOSITORY
ENV GRIDWATCH_CACHE=/opt/gridwatch/cache \
    PYTHONUNBUFFERED=1
USER gridwatch
WORKDIR /home/gridwatch
RUN python -m pipelines.session --prefetch

ENTRYPOINT ["gridwatch"]
CMD ["run"]
