#!/bin/sh
# Founds a trial network: found.sh NETWORK_FOLDER NODES_FOLDER NODE… ; the last node is the producer.
# Makes an administrator's and a producer's key without passphrase and the genesis, once; then gives every node
# the genesis and the last one the producer's key. Running it again changes nothing.
set -eu

network="$1" nodes="$2"
shift 2

if [ ! -f "$network/genesis.json" ]; then
  # A crash half way leaves no genesis, so the keys are made anew.
  rm -rf "$network/keys"
  facechain key new admin --no-passphrase --data-dir "$network"
  facechain key new producer --no-passphrase --data-dir "$network"
  facechain network init --name trial --preset test --data-dir "$network" \
    --admin admin --producer producer --submitter producer --out "$network/genesis.json"
fi

for node in "$@"; do
  install -d -m 0700 "$nodes/$node" "$nodes/$node/keys"
  install -m 0644 "$network/genesis.json" "$nodes/$node/genesis.json"
  last="$node"
done
install -m 0600 "$network/keys/producer.pem" "$nodes/$last/keys/producer.pem"

if [ "$(id -u)" -eq 0 ]; then
  chown -R 10001:10001 "$nodes"
fi
echo "found.sh: $# nodes share the network of $network/genesis.json"
