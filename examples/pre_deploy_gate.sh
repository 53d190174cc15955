#!/bin/sh
# Let a deployment begin only when its server has a fresh good backup.
#
#     examples/pre_deploy_gate.sh 12345 && ./deploy.sh
#     examples/pre_deploy_gate.sh 12345 6h >backup-report.json && ./deploy.sh
#
# It takes the account from VPS_API_TOKEN, as `mcp-backups` does, and changes nothing. The report goes to standard
# output as one JSON object, to be kept with the pipeline's run; what it means goes to standard error.
#
# Exit code: 0 when the deployment may begin, 1 when the server has no good backup of that age, and what
# `mcp-backups check` ends with when it cannot be told (3) or something is set wrong (2). No doubt opens the gate.
set -u

server=${1:?the id of the server to deploy to}
max_age=${2:-24h}

mcp-backups check --server "$server" --max-age "$max_age" --json
status=$?

case $status in
    0) echo "Server $server has a good backup younger than $max_age: the deployment may begin." >&2 ;;
    1) echo "Server $server has no good backup younger than $max_age: make one first." >&2 ;;
    *) echo "Whether server $server has a good backup cannot be told: no deployment." >&2 ;;
esac
exit "$status"
