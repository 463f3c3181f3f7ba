# Serves a bundle; no torch inside.
#
#   docker build -t subspace-serve .
#   docker run --rm -p 3000:3000 -v "$PWD/runs/digits/bundle:/bundle:ro" subspace-serve
#
# With the bundle inside:          --target with-bundle --build-arg BUNDLE=runs/digits/bundle
# For NVIDIA GPUs (--gpus all):    --build-arg CUDA=1

FROM python:3.12-slim AS server

ARG CUDA=

COPY pyproject.toml README.md LICENSE /source/
COPY subspace_serve /source/subspace_serve
COPY trainer /source/trainer
COPY service /source/service

# onnxruntime-gpu also serves on the CPU. There its CUDA part, most of its size, is of no use; with CUDA, the libraries
# that it loads come from NVIDIA's own packages.
RUN pip install --no-cache-dir /source \
 && if [ -n "$CUDA" ]; then \
      pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]"; \
    else \
      find "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/onnxruntime" \
        -name 'libonnxruntime_providers_cuda.so' -delete; \
    fi \
 && rm -r /source \
 && useradd --uid 10001 --no-create-home server

ENV SUBSPACE_SERVE_BUNDLE=/bundle \
    BENTOML_DO_NOT_TRACK=true \
    BENTOML_HOME=/tmp/bentoml \
    HOME=/tmp \
    PYTHONUNBUFFERED=1

USER 10001
EXPOSE 3000

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]

ENTRYPOINT ["subspace-serve", "serve", "--host", "0.0.0.0"]


FROM server AS with-bundle

ARG BUNDLE
COPY ${BUNDLE} /bundle


# What is built unless a target is named: the bundle is mounted at /bundle.
FROM server
