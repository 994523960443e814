#!/bin/sh
# Takes the programs of Redis or Valkey out of an image: CI runs the tests on each version.
#   tools/server_of_image.sh IMAGE DIRECTORY
# Puts redis-server and redis-cli there, for Valkey by these names as well.
set -eu

image=$1 directory=$2
kind=redis
case $image in valkey/*) kind=valkey ;; esac
mkdir -p "$directory"
container=$(docker create "$image")
trap 'docker rm "$container" >/dev/null' EXIT
for program in server cli; do
    docker cp -L "$container:/usr/local/bin/$kind-$program" "$directory/$kind-$program"
    [ "$kind" = redis ] || ln -sf "$kind-$program" "$directory/redis-$program"
done
"$directory/redis-server" --version
