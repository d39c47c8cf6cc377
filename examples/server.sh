# How the examples start and stop a server; `source` it. Runs with bash 3.2 and later.
#
#   need_server            finds the server's binary
#   start_server OPTION... starts it on free ports and waits until it serves; sets grpc_port and http
#   stop_server            stops it, and fails unless it ends well
#   also=PID               another process that is stopped at the end

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
pid=
also=
# Whatever fails in between, nothing is left behind.
trap 'for left in $pid $also; do kill "$left" && wait "$left"; done 2>/dev/null || true; rm -rf "$work"' EXIT

need_server() {
  server=${MERGANSER_SERVER_BIN:-$root/target/release/merganser-server}
  [ -x "$server" ] || { echo "$server is missing: run \`make build\` first" >&2; exit 1; }
}

start_server() {
  rm -f "$work/ready"
  mkfifo "$work/ready"
  "$server" --listen 127.0.0.1:0 --http 127.0.0.1:0 "$@" >"$work/ready" 2>"$work/log" &
  pid=$!
  # The server prints one line, `listening on grpc://ADDRESS:PORT`, once it serves; the port of HTTP is in the log.
  exec 3<"$work/ready"
  local line
  read -r line <&3 || { cat "$work/log" >&2; exit 1; }
  grpc_port=${line##*:}
  http=http://$(sed -n 's/.*serving over HTTP.*address=//p' "$work/log")
}

stop_server() {
  local stopping=$pid
  pid=
  # After Ctrl-C it may have stopped already.
  kill "$stopping" 2>/dev/null || true
  wait "$stopping"
}
