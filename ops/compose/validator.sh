#!/bin/sh
# Starts validator NUMBER of the network in /data/net, with the three others as its peers.
set -eu
number=$1
shift
for other in 0 1 2 3; do
    if [ "$other" != "$number" ]; then
        id=$(sutantra-node comet show-node-id --home "/data/net/node$other")
        set -- "$@" --peers "$id@127.0.0.1:$((26656 + 10 * other))"
    fi
done
port=$((26656 + 10 * number))
export CMT_INSTRUMENTATION_PROMETHEUS=true
export CMT_INSTRUMENTATION_PROMETHEUS_LISTEN_ADDR="127.0.0.1:$((port + 4))"
exec sutantra-node start --home "/data/net/node$number" --role validator --comet spawn \
    --moniker "node$number" --p2p "127.0.0.1:$port" --rpc "127.0.0.1:$((port + 1))" \
    --http "127.0.0.1:$((port + 2))" "$@"
