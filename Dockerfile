# Serves a bundle; no torch inside.
#
#   docker build -t subspace-serve .
#   docker run --rm -p 3000:3000 -v "$PWD/runs/digits/bundle:/bundle:ro" --read-only --tmpfs /tmp subspace-serve
#
# With the bundle inside:          --target with-bundle --build-arg BUNDLE=runs/digits/bundle
# For NVIDIA GPUs (--gpus all):    --build-arg CUDA=1
#
# Settings are flags after the image's name or SUBSPACE_SERVE_* variables. Nothing is written but below /tmp, where the
# checked copy of the bundle lies that is served, with reloads up to three. `docker stop --time 35` lets requests end.

FROM python:3.12-slim AS server

ARG CUDA=

COPY pyproject.toml README.md LICENSE Dockerfile /source/
COPY subspace_serve /source/subspace_serve
COPY trainer /source/trainer
COPY service /source/service

# onnxruntime-gpu also serves on the CPU. There its CUDA part, most of its size, is of no use; with CUDA, the libraries
# that it loads come from NVIDIA's own packages.
RUN pip install --no-cache-dir '/source[grpc,tracing]' \
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
STOPSIGNAL SIGTERM

# Follows the port and TLS where they are given as variables. The certificate, not for 127.0.0.1, is not checked.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "\
import os, ssl, urllib.request\n\
scheme = 'https' if os.environ.get('SUBSPACE_SERVE_TLS_KEY') else 'http'\n\
address = f\"{scheme}://127.0.0.1:{os.environ.get('SUBSPACE_SERVE_PORT', 3000)}/readyz\"\n\
urllib.request.urlopen(address, timeout=4, context=ssl._create_unverified_context())"]

ENTRYPOINT ["subspace-serve", "serve", "--host", "0.0.0.0"]


FROM server AS with-bundle

ARG BUNDLE=bundle
COPY ${BUNDLE} /bundle


# What is built unless a target is named: the bundle is mounted at /bundle.
FROM server
