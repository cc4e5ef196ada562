# shellcheck shell=bash
# Keyfall as the quickstart uses it: its program, its server, what two people ask of it, and waiting for what comes of it.
# Needs common.sh, screen.sh, KEYFALL (the program) and DIR. It knows no scene and no downstream server.

SERVER_PID='' CHILD=''

# interruptible COMMAND...: a shell hears no signal while it runs something long in front of itself.
interruptible() {
	local code=0
	"$@" </dev/null &
	CHILD=$!
	wait "$CHILD" || code=$?
	CHILD=''
	return "$code"
}

# find_keyfall: sets KEYFALL, building it where it was not given.
find_keyfall() {
	local target=${CARGO_TARGET_DIR:-$ROOT/target}
	if [ -n "$GIVEN_BIN" ]; then
		KEYFALL=$(realpath -- "$GIVEN_BIN")
		[ -x "$KEYFALL" ] || fail "$GIVEN_BIN is no program"
		return 0
	fi
	have cargo || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
	have cargo || fail "no cargo: install Rust from https://rustup.rs first"
	case $target in /*) ;; *) target=$PWD/$target ;; esac
	step "cargo build --locked${PROFILE:+ --$PROFILE} (minutes the first time, nothing after it)"
	interruptible cargo build --manifest-path "$ROOT/Cargo.toml" --locked --bin keyfall ${PROFILE:+"--$PROFILE"} --target-dir "$target"
	KEYFALL=$target/${PROFILE:-debug}/keyfall
}

# keyfall_as PERSON ARGUMENT...: standard input is the caller's.
keyfall_as() {
	local person=$1
	shift
	"$KEYFALL" --context "$DIR/keyfall/people/$person.toml" "$@"
}

# as PERSON ARGUMENT...: the same without standard input.
as() { keyfall_as "$@" </dev/null; }

# make_server: settings, keys, an empty store, and two people.
make_server() {
	"$KEYFALL" init "$DIR/keyfall" --name keyfall.quickstart --people alice,bob --listen 127.0.0.1:0 >"$DIR/init.out"
	printf '\n[file_roots]\napps = "%s"\n' "$DIR/apps" >>"$DIR/keyfall/keyfall.toml"
}

serves_or_died() { [ -s "$DIR/ready" ] || ! kill -0 "$SERVER_PID"; }

# start_server: in a session of its own, so that the terminal's Ctrl-C reaches it only through us.
start_server() {
	rm -f "$DIR/ready"
	(
		cd "$DIR/keyfall" || exit 1
		exec setsid "$KEYFALL" serve --config keyfall.toml --ready-file "$DIR/ready"
	) </dev/null >>"$DIR/keyfall.log" 2>&1 &
	SERVER_PID=$!
	printf '%s\n' "$SERVER_PID" >"$DIR/keyfall.pid"
	wait_for 60 "an answer of keyfall serve" serves_or_died || return 1
	[ -s "$DIR/ready" ] || fail "keyfall serve ended at once"
	SERVER_URL=$(cat "$DIR/ready")
}

# keep_port: the free port that the first start took becomes the server's, and everybody's context names it.
keep_port() {
	local person
	sed -i "s|^listen = .*|listen = \"${SERVER_URL#*://}\"|" "$DIR/keyfall/keyfall.toml"
	for person in alice bob; do
		sed -i '/^server = /d' "$DIR/keyfall/people/$person.toml"
		sed -i "1i server = \"$SERVER_URL\"" "$DIR/keyfall/people/$person.toml"
	done
}

server_ended() { ! kill -0 "$SERVER_PID" 2>/dev/null; }

stop_server_orderly() {
	[ -n "$SERVER_PID" ] || return 0
	kill -TERM "$SERVER_PID" 2>/dev/null || true
	wait_for 30 "the end of keyfall serve" server_ended || kill -KILL "$SERVER_PID" 2>/dev/null || true
	wait "$SERVER_PID" 2>/dev/null || true
	SERVER_PID=''
	rm -f "$DIR/keyfall.pid"
}

# plan_of: the id of the plan that was just shown, from standard input.
plan_of() { sed -n 's/^Plan \([^ ]*\) (proposed).*/\1/p'; }

# signed PLAN REASON: bob signs with his own key and follows the runs to their end, three minutes at most; what he saw goes into a file.
signed() {
	interruptible timeout 180 "$KEYFALL" --context "$DIR/keyfall/people/bob.toml" approve "$1" --yes --reason "$2" --wait \
		>"$DIR/approved.out" 2>"$DIR/run.out"
}

# runs_of STATUS [ARGUMENT...]: how many runs there are.
runs_of() {
	local status=$1
	shift
	as alice runs --status "$status" "$@" 2>/dev/null | grep -c '^run_' || true
}

# states IDENTITY: `credential state`, a line each.
states() {
	as alice -o json describe identity "$1" | awk '
		/^ *[{]/ || /: [{]$/ { id = state = "" }
		match($0, /"id": "cred?_[^"]*"/) { split($0, part, "\""); id = part[4] }
		/"state": "/ { split($0, part, "\""); state = part[4] }
		/^ *[}]/ { if (id != "" && state != "") print id, state; id = state = "" }
	' | sort -u
}

# until_holds SECONDS WHAT COMMAND...: like wait_for, and ends early when the server died or a run asks for a person.
until_holds() {
	local seconds=$1 what=$2 deadline looked=0
	shift 2
	deadline=$(($(now_ms) + seconds * 1000))
	until "$@" >"$DIR/last.out" 2>&1; do
		if [ "$(now_ms)" -ge "$deadline" ]; then
			quote <"$DIR/last.out"
			as alice runs --open 2>&1 | quote
			broken "$what within $seconds s"
		fi
		looked=$((looked + 1))
		if server_ended; then broken "$what: keyfall serve ended"; fi
		if [ $((looked % 10)) -eq 0 ] && [ "$(runs_of needs_operator)" -gt 0 ]; then
			as alice runs --status needs_operator | quote
			broken "$what: a run asks for a person"
		fi
		sleep 0.1
	done
}
