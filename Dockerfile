# Tercet in a container.
#
#     docker build --tag tercet .                                    # CPU
#     docker build --build-arg DEVICE=cuda --tag tercet:cuda .       # NVIDIA GPUs
#     docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" tercet demo
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG DEVICE=cpu
ARG EXTRAS=weaviate,faiss,gguf,report,studio,chat
COPY --from=build /wheels /wheels
# The torch of PyPI has CUDA's libraries, some gigabytes; without a GPU a small one does.
RUN case "$DEVICE" in \
        cpu) index=https://download.pytorch.org/whl/cpu ;; \
        cuda) index=https://pypi.org/simple ;; \
        *) echo "DEVICE is cpu or cuda, not $DEVICE" >&2; exit 2 ;; \
    esac \
    && pip install --no-cache-dir --index-url "$index" "torch>=2.10" \
    && pip install --no-cache-dir "$(echo /wheels/*.whl)[$EXTRAS]"
# Models and the Hub's cache lie in a volume, which any user may write.
ENV HF_HOME=/cache/huggingface TERCET_CACHE=/cache/tercet HOME=/cache PYTHONUNBUFFERED=1
RUN mkdir --mode=1777 /cache
VOLUME /cache
WORKDIR /work
USER 1000
ENTRYPOINT ["tercet"]
CMD ["--help"]
