# A bridge as a service on the CPU. It could not be built where it was written, since there was no docker daemon.
#
#   docker build -t langbridge-serve .
#   docker run --rm -p 127.0.0.1:8000:8000 -v /srv/models/mine:/model:ro -e LANGBRIDGE_API_KEYS langbridge-serve
#
# /model is the folder of an exported bridge (langbridge export) or of a causal language model. Options that are given after
# the image's name take the place of the last line, so they begin with `/model --host 0.0.0.0`.

FROM python:3.12-slim AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY recipes ./recipes
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# Give the address of PyTorch's index for the CPU, and the image is without the libraries of GPUs, some gigabytes smaller:
# --build-arg TORCH_INDEX=...
ARG TORCH_INDEX
COPY constraints.txt ./
RUN pip install --no-cache-dir "$(grep '^torch==' constraints.txt)" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir -c constraints.txt "$(ls /wheels/langbridge-*.whl)[serve]" && rm -r /wheels

RUN useradd --uid 10001 --create-home langbridge
USER langbridge
WORKDIR /home/langbridge
ENV HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1

EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
# The process itself is what `docker stop` reaches; give that more time than --drain-seconds (--time 45).
ENTRYPOINT ["langbridge", "serve"]
CMD ["/model", "--host", "0.0.0.0"]
