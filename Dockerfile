# docker build -t mcp-backups .
# docker run -i --rm -e VPS_API_TOKEN -v mcp-backups:/state mcp-backups
#
# It serves over standard input and output, so -i; the volume keeps plans, budgets and the log.

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY mcp_backups mcp_backups
# What else is to be in it, such as metrics,postgres
ARG EXTRAS=
RUN python -m venv /opt/mcp-backups && /opt/mcp-backups/bin/pip install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.13-slim
COPY --from=build /opt/mcp-backups /opt/mcp-backups
# The second folder is for the sockets of `serve --http --socket`: a proxy of the same group reaches them.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /state backups \
    && install --directory --owner=backups --group=backups --mode=700 /state \
    && install --directory --owner=backups --group=backups --mode=750 /run/mcp-backups
ENV PATH=/opt/mcp-backups/bin:$PATH MCP_BACKUPS_STATE_DIR=/state
USER 10001
VOLUME /state
# Docker sees that the program runs; what else can be told at no cost is that its state can be written. No program of
# ours is started for it each minute, and no log read.
HEALTHCHECK --interval=60s --timeout=20s CMD ["test", "-w", "/state"]
ENTRYPOINT ["mcp-backups"]
