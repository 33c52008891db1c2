# The one image. Alone it keeps an embedded database in /data: mount a volume there.
# With DATABASE_URL it is a stateless replica and needs no volume.

FROM python:3.12-slim AS build
COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /usr/local/bin/uv
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/docutalk
WORKDIR /app
COPY pyproject.toml requirements.txt ./
# The runtime's dependencies alone, at the versions and with the hashes that requirements.txt pins.
RUN uv venv "$VIRTUAL_ENV" \
    && uv pip install --require-hashes --constraints requirements.txt --requirements pyproject.toml
COPY alembic.ini ./
COPY migrations/ migrations/
COPY backend/ backend/
RUN uv pip install --no-deps --build-constraints requirements.txt --editable . \
    && "$VIRTUAL_ENV/bin/python" -m compileall -q backend migrations

FROM python:3.12-slim
# tini reaps what the embedded database leaves behind, which a Python process as number 1 would not.
# The user is number 1000 because Hugging Face Spaces runs every container as that.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 docutalk \
    && useradd --uid 1000 --gid 1000 --home-dir /data --no-create-home --shell /usr/sbin/nologin docutalk \
    && install --directory --owner=docutalk --group=docutalk --mode=0700 /data
COPY --from=build /opt/docutalk /opt/docutalk
COPY --from=build /app /app
ENV PATH=/opt/docutalk/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DATA_DIR=/data \
    HOST=0.0.0.0 \
    PORT=8000
WORKDIR /app
USER 1000:1000
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health', timeout=4)"]
ENTRYPOINT ["tini", "--"]
CMD ["docutalk", "serve"]
