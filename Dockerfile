# syntax=docker/dockerfile:1
# audiosep in a container: docs/guides/docker.md. The wheel is built in the first stage and installed in the second.

FROM python:3.12-slim AS wheel
WORKDIR /src
RUN pip install --no-cache-dir "hatchling>=1.25"
COPY pyproject.toml README.md LICENSE ./
COPY audiosep audiosep
COPY checkpoints checkpoints
RUN python -m hatchling build -t wheel -d /dist

FROM python:3.12-slim
# CUDA=no takes torch from TORCH_INDEX, which holds builds for the CPU; CUDA=yes takes the usual one, with CUDA.
ARG CUDA=no
ARG TORCH_INDEX=
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY constraints.txt .
RUN if [ "$CUDA" = no ]; then \
        pip install --no-cache-dir torch -c constraints.txt \
            --index-url "${TORCH_INDEX:?give --build-arg TORCH_INDEX, or --build-arg CUDA=yes}"; \
    fi
RUN --mount=from=wheel,source=/dist,target=/dist \
    pip install --no-cache-dir "$(ls /dist/*.whl)[formats,loudness]" -c constraints.txt
# Downloaded models; any user may write there, because `docker run --user` names one that has no home folder.
ENV AUDIOSEP_HOME=/models
RUN mkdir /models && chmod 1777 /models && audiosep doctor
VOLUME /models
WORKDIR /work
ENTRYPOINT ["audiosep"]
CMD ["--help"]
