#!/usr/bin/env sh
# An environment for each peer under $1, with the packages that its program here needs. A peer that cannot be
# installed is named, and the benchmark leaves it out.
set -u
FOLDER=${1:-"$HOME/.cache/medgr2-bench"}
PYTHON=${PYTHON:-python3}
mkdir -p "$FOLDER"
echo "torch==2.13.0" > "$FOLDER/constraints.txt"

peer() {
  name=$1
  shift
  test -f "$FOLDER/$name.ok" && return
  "$PYTHON" -m venv "$FOLDER/$name"
  if "$FOLDER/$name/bin/pip" install -q --disable-pip-version-check -c "$FOLDER/constraints.txt" "$@" >"$FOLDER/$name.log" 2>&1
  then touch "$FOLDER/$name.ok"
  else echo "$name could not be installed: see $FOLDER/$name.log"
  fi
}

peer distilabel "distilabel[openai]" requests
peer curator bespokelabs-curator
peer designer data-designer
peer ray "ray[data]" aiohttp
peer datatrove datatrove httpx aiosqlite aiofiles orjson xxhash nltk
